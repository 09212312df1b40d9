import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// What the page of periods says before and after a close, and to a form that it refuses.
@Suite struct PeriodPageTests {
  /// Two customers, each with a period of 2025 that is due.
  private func setup() throws -> APISetup {
    let api = try APISetup()
    try api.addLicense("lic_1", limit: 100)
    try api.addLicense("lic_2", customer: "cus_2")
    try api.addUsage("lic_1", "2025-01-10 10:00Z", 120)
    try api.addUsage("lic_2", "2025-01-10 10:00Z", 7)
    try api.database.execute("select usage_merge('{0}')")
    return api
  }

  private func verdict(_ html: String) -> String? {
    html.firstMatch(of: /<div class="verdict (.*?)<\/div>/).map { String($0.output.1) }
  }

  @Test func `a day that cannot be read, or an unknown customer, is not taken for nothing due`()
    throws
  {
    let reader = try PageReader(try setup())
    let day = try reader.get("/periods?ending_before=bogus").body
    #expect(verdict(day) == nil && day.contains("bogus is not a day such as 2026-11-01."))
    #expect(day.contains("lic_1"), "the list of due periods is still there")
    let name = try reader.get("/periods?ending_before=2025-02-01&close_customer=cus_amce").body
    #expect(verdict(name) == nil, "\(name)")
    #expect(name.contains("There is no customer with the id cus_amce."))
    #expect(name.contains("name=\"close_customer\" type=\"text\" value=\"cus_amce\""))
    #expect(!name.contains("periods/close\" method=\"post\""))
  }

  @Test func `after the close for one customer the page does not call everything closed`() throws {
    let api = try setup()
    let reader = try PageReader(api)
    let fields = ["ending_before": "2025-02-01T00:00:00Z", "customer_id": "cus_1"]
    let closed = try reader.submit("/periods/close", from: "/periods", fields)
    let place = try #require(closed.headers["location"], "\(closed.body)")
    #expect(place == "/periods?ending_before=2025-02-01&close_customer=cus_1&done=closed")
    let page = try reader.get(place).body
    #expect(page.contains("The periods are closed."))
    let sentence = try #require(verdict(page), "\(page)")
    #expect(sentence.hasPrefix("warning"))
    #expect(
      sentence.contains("Nothing is due: every period of cus_1 that ended by 2025-02-01 is closed.")
    )
    #expect(sentence.contains("Other periods are due. They are listed below."))

    let again = try reader.submit("/periods/close", from: "/periods", fields)
    let nothing = try reader.get(try #require(again.headers["location"])).body
    #expect(nothing.contains("There was nothing left to close."))
    #expect(!nothing.contains("The periods are closed."))

    _ = try reader.submit(
      "/periods/close", from: "/periods", ["ending_before": "2025-02-01T00:00:00Z"])
    let all = try reader.get("/periods?ending_before=2025-02-01").body
    #expect(verdict(all)?.hasPrefix("good") == true, "\(all)")
  }

  @Test func `a correction that is refused keeps what was entered and says what is wrong`() throws {
    let api = try setup()
    let reader = try PageReader(api)
    let entered = [
      "license_id": "lic_1", "meter": "api_calls", "applies_to_period_start": "2025-01-02",
      "quantity": "-20", "reason": "agreed <b>today</b>", "once": "0123456789abcdef-adjust",
    ]
    var fields = entered
    fields["csrf"] = try reader.csrf("/periods")
    let refused = try reader.send(
      "/adjustments", fields,
      headers: ["Referer": "http://localhost/periods?license_id=lic_1&done=closed"])
    #expect(refused.status == 400, "\(refused.body)")
    let html = refused.body
    #expect(html.contains("Nothing was changed. "))
    #expect(html.contains("<strong>First day of the period: </strong>No period"), "\(html)")
    #expect(html.contains("<details class=\"folded\" open><summary>Record a correction"))
    for value in ["2025-01-02", "-20", "agreed &lt;b&gt;today&lt;/b&gt;"] {
      #expect(html.contains("value=\"\(value)\""), "\(value)")
    }
    #expect(html.contains("href=\"#adjust-2\"") && html.contains("id=\"adjust-2\""))
    // The page has the filter that it had before, and the next try is a new one.
    #expect(html.contains("/csv/periods?status=due&amp;license_id=lic_1"))
    #expect(!html.contains("0123456789abcdef"))
    #expect(!html.contains("The periods are closed."))
    #expect(try api.database.integer("select count(*) from usage_adjustment_entry") == 0)

    fields["applies_to_period_start"] = "2025-01-01"
    #expect(try reader.send("/adjustments", fields).status == 303)
  }

  @Test func `a statement explains its numbers and has a line for events without a domain`() throws
  {
    let api = try setup()
    try api.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', '2025-01-12 10:00Z', 1, 1, 32, 2,
        '[5,32,2]', '');
      select usage_merge('{0}')
      """)
    let adjusted = try api.request(
      "POST", "/v1/adjustments",
      body: #"{"license_id":"lic_1","meter":"api_calls","quantity":10,"reason":"r","#
        + #""applies_to_period_start":"2025-01-01T00:00:00Z"}"#)
    #expect(adjusted.status == 201, "\(adjusted.body)")
    #expect(
      try api.request("POST", "/v1/periods/close", body: #"{"ending_before":"2025-02-01"}"#).status
        == 200)
    let html = try PageReader(api).get("/customers/cus_1/statements/2025-01").body
    // 152 used and 10 by hand are 62 above the 100 that are included.
    for number in ["152", "100", "62", "+10", "162"] {
      #expect(html.contains("<span class=\"number\">\(number)</span>"), "\(number) \(html)")
    }
    #expect(html.contains("what was used and the corrections by hand of the same period"))
    let row = "<span class=\"quiet\">events without a domain</span>"
    #expect(
      html.firstRange(of: row).map { html[$0.upperBound...].prefix(120).contains("32") } == true)
  }

  @Test func `a license's page says which corrections are in its card and not in its charts`()
    throws
  {
    let api = try setup()
    try api.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_2', 'api_calls', date_trunc('hour', now()), 1, 1,
        380, 1, '[5,380,1]', '');
      select usage_merge('{0}')
      """)
    let page = try PageReader(api)
    #expect(!(try page.get("/licenses/lic_2").body.contains("corrections by hand")))
    let first = try #require(
      try api.database.rows("select to_char(now() at time zone 'UTC', 'YYYY-MM') || '-01'").first?[
        0])
    let adjusted = try api.request(
      "POST", "/v1/adjustments",
      body: #"{"license_id":"lic_2","meter":"api_calls","quantity":-100,"reason":"r","#
        + #""applies_to_period_start":"\#(first)T00:00:00Z"}"#)
    #expect(adjusted.status == 201, "\(adjusted.body)")
    let html = try page.get("/licenses/lic_2").body
    #expect(html.contains("<span class=\"number\">280</span>"))
    #expect(
      html.contains("with corrections by hand of <span class=\"number\">−100</span>"), "\(html)")
    #expect(html.contains("The charts show what was counted, without them."))
  }

  @Test func `a period that has not ended cannot be closed by force, and no answer offers it`()
    throws
  {
    let api = try setup()
    try api.addUsage(
      "lic_1",
      try #require(try api.database.rows("select date_trunc('hour', now())::text").first?[0]),
      3)
    let open = try #require(try api.get("/v1/periods?license_id=lic_1&status=open").data.first)
    let id = try #require(open["period_id"] as? String)
    for body in ["{}", #"{"force":true,"reason":"r"}"#] {
      let refused = try api.request("POST", "/v1/periods/\(id)/close", body: body)
      #expect(refused.status == 409 && refused["code"] == "not_ended", "\(refused.body)")
      #expect(!refused.body.contains("force"))
    }
    let command = try ChildProcess(
      ChildProcess.product("meterctl"), ["periods", "close", "--period", id],
      environment: ["METER_DATABASE_URL": api.database.url])
    #expect(command.wait() != 0)
    #expect(command.output.contains("the period has not ended"), "\(command.output)")
    #expect(!command.output.contains("--force"))
  }
}
