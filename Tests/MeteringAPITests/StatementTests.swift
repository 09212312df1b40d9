import Foundation
import MeteringTestKit
import Testing

/// Statements, closes and corrections where something is unusual: late events, licenses that move,
/// customers and periods that do not exist. All usage is in early 2025.
@Suite(.serialized)
struct StatementTests {
  private func setup() throws -> APISetup {
    let setup = try APISetup()
    try setup.addLicense("lic_1", limit: 100)
    try use(setup, "lic_1", "2025-01-10 10:00Z", 120)
    return setup
  }

  private func use(
    _ setup: APISetup, _ license: String, _ time: String, _ quantity: Int,
    meter: String = "api_calls"
  ) throws {
    try setup.addUsage(license, time, quantity, meter: meter)
    _ = try setup.database.rows("select usage_merge('{0}')")
  }

  private func close(
    _ setup: APISetup, _ day: String = "2025-02-01", _ more: String = ""
  ) throws -> APISetup.Answer {
    try setup.request(
      "POST", "/v1/periods/close", body: #"{"ending_before":"\#(day)"\#(more)}"#)
  }

  @Test func `The list of statements says what the statements say, whatever is late`() throws {
    let setup = try setup()
    _ = try close(setup, "2025-04-01")
    // These meters were not used before the close. One of them in a month without any usage.
    try use(setup, "lic_1", "2025-01-11 10:00Z", 3, meter: "exports")
    try use(setup, "lic_1", "2025-02-11 10:00Z", 3, meter: "exports")
    let months = try setup.get("/v1/customers/cus_1/statements").data
    #expect(months.compactMap { $0["month"] as? String }.contains("2025-01"))
    for month in months {
      let name = try #require(month["month"] as? String)
      let statement = try setup.get("/v1/customers/cus_1/statements/\(name)")
      let lines = statement.json["lines"] as? [Any]
      #expect(month["periods"] as? Int == lines?.count, "\(month) \(statement.body)")
      #expect(month["status"] as? String == statement["status"], "\(month)")
      #expect(
        month["closed_at"] as? String == statement.json["closed_at"] as? String,
        "\(month) \(statement.body)")
    }
    let february = try setup.get("/v1/customers/cus_1/statements/2025-02")
    #expect(february["status"] == "open" && (february.json["lines"] as? [Any])?.isEmpty == true)
    #expect(!months.contains { $0["month"] as? String == "2025-02" })
  }

  @Test func `A customer who does not exist is neither previewed nor closed`() throws {
    let setup = try setup()
    let preview = "/v1/periods/close-preview?ending_before=2025-02-01&customer_id="
    #expect(try setup.get(preview + "cus_nope").status == 404)
    #expect(try setup.get(preview + "cus_1").status == 200)
    let unknown = try close(setup, "2025-02-01", #","customer_id":"cus_nope""#)
    #expect(unknown.status == 404 && unknown["code"] == "not_found", "\(unknown.body)")
    #expect(try setup.database.integer("select count(*) from usage_close") == 0)
    #expect(try close(setup)["close_id"] != "<null>")
    let nothing = try close(setup)
    #expect(nothing["closed"] == "0" && nothing["close_id"] == "<null>", "\(nothing.body)")
  }

  @Test func `Dead letters are warned of until somebody closes a month`() throws {
    let setup = try setup()
    try setup.addLicense("lic_2", customer: "cus_2")
    try use(setup, "lic_2", "2025-01-11 10:00Z", 3)
    try use(setup, "lic_2", "2025-02-11 10:00Z", 3)
    try setup.database.execute(
      """
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason,
        detail, payload)
      values ('license.usage.v1', 0, 1, 1, 'usage-aggregator', 'not_json', 'x', '')
      """)
    func warned(_ day: String = "2025-03-01") throws -> Bool {
      let answer = try setup.get("/v1/periods/close-preview?ending_before=\(day)")
      return answer.body.contains("dead_letters")
    }
    #expect(try warned())
    _ = try close(setup, "2024-01-01")
    #expect(try warned(), "after a close of nothing")
    _ = try close(setup, "2025-02-01", #","customer_id":"cus_1""#)
    #expect(try warned(), "after a close of one customer")
    _ = try setup.request("POST", "/v1/periods/lic_2:api_calls:2025-01-01/close")
    #expect(try warned(), "after a close of one period")
    _ = try close(setup, "2025-03-01")
    #expect(try !warned("2025-04-01"), "after a close of the month")
  }

  @Test func `What was invoiced stays with the customer who had the license`() throws {
    let setup = try setup()
    _ = try close(setup)
    try use(setup, "lic_1", "2025-01-11 10:00Z", 9)
    _ = try close(setup, "2025-03-01")
    try setup.addCustomer("cus_new")
    try setup.database.execute("update license set customer_id = 'cus_new'")
    try use(setup, "lic_1", "2025-01-12 10:00Z", 4)
    let rows = try setup.get("/v1/adjustments?license_id=lic_1").data
    let told = Dictionary(
      uniqueKeysWithValues: rows.map { ($0["quantity"] as? Int ?? 0, $0["customer_id"] as? String) }
    )
    #expect(told == [9: "cus_1", 4: "cus_new"], "\(rows)")
    for (customer, quantity) in [("cus_1", 9), ("cus_new", 4)] {
      let own = try setup.get("/v1/adjustments?customer_id=\(customer)").data
      #expect(own.compactMap { $0["quantity"] as? Int } == [quantity], "\(own)")
    }
    #expect(
      try setup.database.rows(
        """
        select p.period_start::date, p.customer_id, p.status, p.quantity
        from billing_usage_by_period p where p.license_id = 'lic_1' order by 1
        """) == [
          ["2025-01-01", "cus_1", "closed", "120"], ["2025-02-01", "cus_1", "closed", "0"],
        ])
    #expect(
      try setup.database.integer(
        "select count(*) from billing_usage_by_period where customer_id = 'cus_new'") == 0)
  }

  @Test func `A customer without usage has no rows after a license has moved`() throws {
    let setup = try setup()
    try eventually("the totals are made") {
      _ = try setup.database.rows("select usage_fold(1000)")
      return try setup.database.integer("select count(*) from usage_total_state where is_complete")
        == 1
    }
    try setup.addCustomer("cus_new")
    try setup.database.execute("update license set customer_id = 'cus_new'")
    let path =
      "/v1/usage?window=month&group_by=customer,meter&from=2025-01-01T00:00:00Z&to=2025-03-01T00:00:00Z"
    let usage = try setup.get(path).data
    #expect(usage.compactMap { $0["customer_id"] as? String } == ["cus_new"], "\(usage)")
    #expect(try setup.get(path + "&customer_id=cus_1").data.isEmpty)
    #expect(try setup.get(path + "&customer_id=cus_1&fill=zero").status == 200)
  }

  @Test func `Blank reasons and names are refused`() throws {
    let setup = try setup()
    let blanks = ["  ", "\u{00A0}\\t", "\u{3000}"]
    for blank in blanks {
      let forced = try close(setup, "2025-02-01", #","force":true,"reason":"\#(blank)""#)
      #expect(forced.status == 400 && forced.body.contains("reason"), "\(forced.body)")
      let adjusted = try adjust(setup, "2025-01-01", reason: blank)
      #expect(adjusted.status == 400 && adjusted.body.contains("reason"), "\(adjusted.body)")
      for (path, body) in [
        ("/v1/customers", #"{"customer_id":"cus_b","name":"\#(blank)"}"#),
        ("/v1/tokens", #"{"name":"\#(blank)","scopes":["usage:read"]}"#),
      ] {
        let made = try setup.request("POST", path, body: body)
        #expect(made.status == 400 && made.body.contains("name"), "\(path) \(made.body)")
      }
    }
    let renamed = try setup.request("PATCH", "/v1/customers/cus_1", body: #"{"name":"   "}"#)
    #expect(renamed.status == 400, "\(renamed.body)")
  }

  private func adjust(
    _ setup: APISetup, _ day: String, license: String = "lic_1", reason: String = "agreed"
  ) throws -> APISetup.Answer {
    try setup.request(
      "POST", "/v1/adjustments",
      body: """
        {"license_id":"\(license)","meter":"api_calls","quantity":5,"reason":"\(reason)",
         "applies_to_period_start":"\(day)"}
        """)
  }

  @Test func `An adjustment belongs to a time in which the license existed or was used`() throws {
    let setup = try setup()
    // The license was issued after this usage.
    #expect(try adjust(setup, "2025-01-01").status == 201)
    for license in ["lic_1", "lic_nobody"] {
      try use(setup, "lic_nobody", "2025-01-10 10:00Z", 1)
      let refused = try adjust(setup, "1990-01-01", license: license)
      #expect(refused.status == 400, "\(refused.body)")
      #expect(
        refused.body.contains("applies_to_period_start") && refused.body.contains("T00:00:00Z"))
    }
    #expect(try adjust(setup, "2025-01-01", license: "lic_nobody").status == 201)
    // Any period since it was issued can be corrected, used or not.
    let issued = try #require(
      try setup.database.rows(
        "select date_trunc('month', issued_at at time zone 'UTC')::date from license"
      ).first?.first ?? nil)
    #expect(try adjust(setup, issued).status == 201)
    // A closed period can be corrected too, even if nothing was used in it.
    _ = try close(setup, "2025-02-01")
    #expect(try adjust(setup, "2025-01-01").status == 201)
  }
}
