import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Ranges that are billing periods, windows without usage, the largest groups, and corrections.
@Suite(.serialized)
struct UsageRangeTests {
  private func quantities(_ answer: APISetup.Answer) -> [Int] {
    answer.data.compactMap { $0["quantity"] as? Int }
  }

  /// The date that many days ago, such as `2026-11-20`.
  private func day(_ ago: Int) -> String {
    String(
      ISO8601DateFormatter().string(from: Date(timeIntervalSinceNow: -86_400 * Double(ago)))
        .prefix(10))
  }

  private func refused(
    _ setup: APISetup, _ query: String, _ parameter: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let answer = try setup.get("/v1/usage?" + query)
    let errors = answer.json["errors"] as? [[String: Any]] ?? []
    #expect(
      answer.status == 400 && errors.contains { $0["parameter"] as? String == parameter },
      "\(query): \(answer.body)", sourceLocation: sourceLocation)
  }

  /// The first days of the period before the last one, of the last one, of the running one, and of
  /// the next one.
  private func starts(_ setup: APISetup, _ license: String) throws -> [String] {
    let row = try setup.database.rows(
      """
      select a.first_day, b.first_day, c.first_day, c.end_day
      from period_of($1, (now() at time zone 'UTC')::date) c,
        period_of($1, c.first_day - 1) b, period_of($1, b.first_day - 1) a
      """, [.text(license)])[0]
    return row.compactMap { $0 }
  }

  @Test func `A billing period is cut into windows, filled, compared, and grouped by domain`()
    throws
  {
    let setup = try APISetup()
    for license in ["lic_1", "lic_2"] { try setup.addLicense(license, anchorDay: 15) }
    try setup.addLicense("lic_3", customer: "cus_2", anchorDay: 20)
    // Another day in earlier years makes no other period today.
    try setup.database.execute(
      "insert into license_billing_anchor values ('lic_2', '2020-01-15', 15)")
    try setup.addToken("mtr_c1", scopes: "usage:read", customer: "cus_1")
    let starts = try starts(setup, "lic_1")
    try setup.addUsage("lic_1", "\(starts[0]) 00:00Z", 3)
    try setup.addUsage("lic_1", "\(starts[1]) 00:00Z", 5, domain: "other.example")
    try setup.addUsage("lic_1", "\(starts[1]) 10:00Z", 1)
    for (before, quantity) in [(1, 20), (2, 7)] {
      _ = try setup.database.rows(
        """
        insert into usage_pending select 1, 0, 'lic_1', 'api_calls',
          \(before == 1 ? "b" : "c") - interval '1 hour', 0, 0, \(quantity), 1,
          '[0,\(quantity),1]', '["domain","example.com",\(quantity),1]'
        from (select '\(starts[1]) 00:00Z'::timestamptz as b,
          '\(starts[2]) 00:00Z'::timestamptz as c) x
        """)
    }
    try setup.addUsage("lic_1", "\(starts[2]) 00:00Z", 1_000)
    let last = "range=last_period&license_id=lic_1"
    for round in 0..<2 {
      let days = try setup.get("/v1/usage?\(last)&window=day")
      #expect(quantities(days) == [6, 7], "round \(round): \(days.body)")
      #expect(days["from"] == "\(starts[1])T00:00:00Z" && days["to"] == "\(starts[2])T00:00:00Z")
      #expect(quantities(try setup.get("/v1/usage?\(last)&window=hour")) == [5, 1, 7])
      let filled = quantities(try setup.get("/v1/usage?\(last)&window=day&fill=zero"))
      #expect((28...31).contains(filled.count) && filled.first == 6 && filled.last == 7)
      let berlin = try setup.get("/v1/usage?\(last)&window=day&time_zone=Europe/Berlin")
      #expect(quantities(berlin).reduce(0, +) == 13, "\(berlin.body)")
      #expect(berlin["from"] == days["from"] && berlin["time_zone"] == "Europe/Berlin")
      let domains = try setup.get("/v1/usage?\(last)&group_by=domain")
      #expect(domains.data.map { $0["domain"] as? String } == ["example.com", "other.example"])
      #expect(quantities(domains) == [8, 5])
      let compared = try setup.get("/v1/usage?\(last)&compare=previous")
      #expect(quantities(compared) == [13])
      #expect(compared.data.first?["previous_quantity"] as? Int == 23, "\(compared.body)")
      let running = "range=current_period&license_id=lic_1"
      let current = try setup.get("/v1/usage?\(running)&window=month&fill=zero")
      #expect(quantities(current) == [1_000, 0], "\(current.body)")
      #expect(current["to"] == "\(starts[3])T00:00:00Z")
      #expect(
        quantities(try setup.get("/v1/usage?\(running)&time_zone=Asia/Kolkata")) == [1_000])
      _ = try setup.database.rows("select usage_merge('{0}')")
    }
    // Pages and files use the same range.
    let first = try setup.get("/v1/usage?\(last)&window=day&limit=1")
    let cursor = try #require(first.json["next"] as? String)
    let second = try setup.get("/v1/usage?\(last)&window=day&limit=1&cursor=\(cursor)")
    #expect(quantities(first) + quantities(second) == [6, 7] && second["next"] == "<null>")
    let csv = try setup.get("/v1/usage?\(last)&window=day&format=csv")
    #expect(csv.body.components(separatedBy: "\r\n").count == 4, "\(csv.body)")
    // Licenses with the same period are answered together.
    let group = "range=last_period&window=day&group_by=customer"
    #expect(quantities(try setup.get("/v1/usage?\(group)&customer_id=cus_1")) == [6, 7])
    #expect(quantities(try setup.get("/v1/usage?\(group)", token: "mtr_c1")) == [6, 7])
    try refused(setup, group, "range")
    try refused(setup, "\(group)&customer_id=cus_1&customer_id=cus_2", "range")
    try refused(setup, "\(last)&window=minute", "window")
    try refused(setup, "\(last)&window=period&fill=zero", "fill")
    try refused(setup, "\(last)&window=period&compare=previous", "compare")
    try refused(setup, "\(last)&group_by=domain&time_zone=Europe/Berlin", "time_zone")
    #expect(
      try setup.get("/v1/usage?\(last)&window=day&license_id=lic_3", token: "mtr_c1").status == 404)
    // The period of whoever has no license is the calendar month.
    let month = try setup.get("/v1/usage?range=last_month&window=day&license_id=lic_x")
    for name in ["license_id=lic_x", "customer_id=cus_x"] {
      let nobody = try setup.get("/v1/usage?range=last_period&window=day&\(name)")
      #expect(nobody["from"] == month["from"] && nobody["to"] == month["to"], "\(nobody.body)")
    }
  }

  @Test func `All licenses are answered together if every one of them begins with the month`()
    throws
  {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try setup.addLicense("lic_2", customer: "cus_2")
    let start = try starts(setup, "lic_1")[1]
    for license in ["lic_1", "lic_2", "lic_none"] {
      try setup.addUsage(license, "\(start) 00:00Z", 4)
    }
    let all = try setup.get("/v1/usage?range=last_period&window=day&group_by=meter")
    #expect(quantities(all) == [12], "\(all.body)")
    let top = try setup.get("/v1/usage?range=last_period&window=day&top=1&fill=zero")
    #expect(top.status == 200 && quantities(top).reduce(0, +) == 12, "\(top.body)")
  }

  @Test func `Windows without usage are shown for everything that the question names`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try setup.addLicense("lic_2")
    try setup.addCustomer("cus_9")
    try setup.addToken("mtr_c1", scopes: "usage:read", customer: "cus_1")
    try setup.addUsage("lic_1", "\(day(2))T10:00:00Z", 5)
    let range = "from=\(day(2))T00:00:00Z&to=\(day(1))T00:00:00Z&fill=zero"
    func found(_ query: String, token: String = APISetup.adminToken) throws -> [String] {
      let answer = try setup.get("/v1/usage?\(range)&\(query)", token: token)
      #expect(answer.status == 200, "\(query): \(answer.body)")
      return answer.data.map { row in
        ["license_id", "customer_id", "meter", "quantity"].compactMap { name in
          row[name].map { "\($0)" }
        }.joined(separator: " ")
      }
    }
    let both = ["lic_1 cus_1 api_calls 5", "lic_2 cus_1 api_calls 0"]
    #expect(try found("customer_id=cus_1") == both)
    #expect(try found("window=total", token: "mtr_c1") == both)
    #expect(try found("customer_id=cus_1&group_by=license") == ["lic_1 cus_1 5", "lic_2 cus_1 0"])
    #expect(
      try found("customer_id=cus_1&meter=api_calls&meter=exports") == [
        both[0], "lic_1 cus_1 exports 0", both[1], "lic_2 cus_1 exports 0",
      ])
    #expect(try found("group_by=meter&meter=api_calls&license_id=lic_2") == ["api_calls 0"])
    #expect(try found("group_by=meter&customer_id=cus_9") == ["api_calls 0"])
    #expect(
      try found("group_by=meter&meter=exports&meter=api_calls") == ["api_calls 5", "exports 0"])
    #expect(
      try found("group_by=customer&customer_id=cus_9&customer_id=cus_1") == ["cus_1 5", "cus_9 0"])
    #expect(try found("group_by=customer&license_id=lic_2") == ["cus_1 0"])
    #expect(try found("customer_id=cus_1&group_by=customer,meter") == ["cus_1 api_calls 5"])
    #expect(try found("customer_id=cus_1&meter=api_calls&top=1") == [both[0]])
    #expect(try found("customer_id=cus_1&meter=api_calls&group_by=domain") == ["5"])
    // Pages of any size have the same windows as the whole answer.
    let hours = "customer_id=cus_1&window=hour"
    let whole = try found(hours + "&limit=10000")
    #expect(whole.count == 48 && Set(whole) == Set(both + ["lic_1 cus_1 api_calls 0"]))
    for limit in [1, 7, 24, 25, 48] {
      var (rows, next): ([String], String?) = ([], nil)
      repeat {
        let answer = try setup.get(
          "/v1/usage?\(range)&\(hours)&limit=\(limit)" + (next.map { "&cursor=\($0)" } ?? ""))
        #expect(answer.data.count <= limit)
        rows += answer.data.map { "\($0["license_id"] ?? "") \($0["window_start"] ?? "")" }
        next = answer.json["next"] as? String
      } while next != nil
      #expect(rows.count == 48 && Set(rows).count == 48 && rows == rows.sorted(), "\(limit)")
    }
    let csv = try setup.get("/v1/usage?\(range)&\(hours)&format=csv")
    #expect(csv.body.components(separatedBy: "\r\n").count == 50)
  }

  @Test func `The largest groups are never cut off by the limit without a word`() throws {
    let setup = try APISetup()
    for (license, quantity) in [("lic_1", 5), ("lic_2", 4), ("lic_3", 3)] {
      try setup.addUsage(license, "\(day(2))T10:00:00Z", quantity)
    }
    let top = "from=\(day(2))T00:00:00Z&to=\(day(1))T00:00:00Z&top=2"
    #expect(quantities(try setup.get("/v1/usage?\(top)&limit=3")) == [5, 4, 3])
    #expect(quantities(try setup.get("/v1/usage?\(top)")) == [5, 4, 3])
    try refused(setup, top + "&limit=2", "limit")
  }

  @Test func `Corrections of the running period count in what is used of its limit`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1", limit: 10)
    let starts = try starts(setup, "lic_1")
    try setup.addUsage("lic_1", ISO8601DateFormatter().string(from: Date()), 12)
    _ = try setup.database.rows("select usage_merge('{0}')")
    func adjust(_ quantity: Int, _ start: String, meter: String = "api_calls") throws -> String {
      let made = try setup.request(
        "POST", "/v1/adjustments",
        body: """
          {"license_id":"lic_1","meter":"\(meter)","quantity":\(quantity),"reason":"agreed",
          "applies_to_period_start":"\(start)T00:00:00Z"}
          """)
      #expect(made.status == 201, "\(made.body)")
      return made["adjustment_id"]
    }
    func current() throws -> [[String: Any]] {
      try setup.get("/v1/licenses/lic_1/usage/current").json["meters"] as? [[String: Any]] ?? []
    }
    func numbers(_ meter: [String: Any]) -> [Int?] {
      ["used", "remaining", "percent"].map { meter[$0] as? Int }
    }
    #expect(numbers(try current()[0]) == [12, 0, 120])
    _ = try adjust(-5, starts[2])
    _ = try adjust(-100, starts[1])
    let corrected = try current()
    #expect(corrected.count == 1 && numbers(corrected[0]) == [7, 3, 70], "\(corrected)")
    #expect(corrected[0]["is_over"] as? Bool == false)
    let estimate = corrected[0]["projected"] as? [String: Int] ?? [:]
    #expect(estimate["low"] ?? 0 >= 7 && estimate["quantity"] ?? 0 >= 7)
    // The limit is judged by the same number.
    _ = try setup.database.rows("select limit_sweep(100)")
    #expect(
      try setup.database.integer(
        "select used from limit_state where period_start = '\(starts[2])'") == 7)
    // More than was used can be taken back. Then nothing is used.
    let much = try adjust(-50, starts[2])
    #expect(numbers(try current()[0]) == [0, 10, 0])
    let back = try setup.request(
      "POST", "/v1/adjustments/\(much)/reverse", body: #"{"reason":"a mistake"}"#)
    #expect(back.status == 201, "\(back.body)")
    #expect(numbers(try current()[0]) == [7, 3, 70])
    // A meter that was only corrected is shown too.
    _ = try adjust(4, starts[2], meter: "exports")
    let both = try current()
    #expect(both.map { $0["meter"] as? String } == ["api_calls", "exports"])
    #expect(both.last?["used"] as? Int == 4 && both.last?["limit"] is NSNull, "\(both)")
    let csv = try setup.get("/v1/licenses/lic_1/usage/current?format=csv")
    #expect(csv.body.contains(",7,10,3,70,false,"), "\(csv.body)")
  }
}
