import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Where the links of a page lead, for somebody who has only the session's cookie.
@Suite struct PageLinkTests {
  private static let pages = [
    "/", "/licenses", "/licenses/lic_1", "/customers", "/customers/cus_1",
    "/customers/cus_1/statements/2025-01", "/periods", "/periods?status=closed", "/alerts",
    "/webhooks", "/webhooks/ep_1", "/dead-letters", "/audit", "/tokens",
  ]

  private func setup(_ environment: [String: String] = [:]) throws -> APISetup {
    let api = try APISetup(environment: environment)
    try api.addLicense("lic_1")
    try api.addLicense("lic_2", customer: "cus_2")
    try api.addUsage("lic_1", "2025-01-10 10:00Z", 120)
    try api.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_2', 'api_calls', date_trunc('hour', now()), 1, 1,
        7, 1, '[5,7,1]', '');
      select usage_merge('{0}');
      insert into webhook_endpoint (endpoint_id, customer_id, url)
      values ('ep_1', 'cus_1', 'https://hooks.example.com/x')
      """)
    return api
  }

  /// The addresses of a page's links whose text is the given one.
  private func links(_ html: String, _ text: String) -> [String] {
    html.matches(of: /<a href="([^"]*)"[^>]*>([^<]*)<\/a>/).filter { $0.output.2 == text }
      .map { String($0.output.1).replacing("&amp;", with: "&") }
  }

  @Test func `every link to a CSV downloads what the API answers to the session's token`() throws {
    for base in ["", "/billing"] {
      let api = try setup(base.isEmpty ? [:] : ["METER_BASE_PATH": base])
      let signedIn = try PageReader(api: api).send(
        base + "/sign-in", ["token": APISetup.adminToken])
      let reader = PageReader(api: api, cookie: PageReader.cookie(signedIn))
      var found: Set<String> = []
      for page in Self.pages {
        let html = try reader.get(base + page).body
        let addresses = links(html, "Download as CSV")
        #expect(!addresses.isEmpty, "\(page) \(html)")
        found.formUnion(addresses)
      }
      #expect(found.count > 12)
      for address in found {
        #expect(address.hasPrefix(base + "/csv/"))
        let answer = try reader.get(address)
        #expect(answer.status == 200, "\(address) \(answer.body)")
        #expect(answer.headers["content-type"] == "text/csv; charset=utf-8; header=present")
        #expect(answer.headers["content-disposition"]?.hasPrefix("attachment") == true)
        #expect(answer.headers["cache-control"] == "no-store")
        let path = address.dropFirst((base + "/csv").count)
        let mark = path.contains("?") ? "&" : "?"
        let api = try api.get(base + "/v1" + path + mark + "format=csv")
        #expect(answer.body == api.body, "\(address)")
      }
    }
  }

  @Test func `a CSV asks for a session, for its scopes, and for its customer`() throws {
    let api = try setup()
    let away = try PageReader(api: api).get("/csv/licenses")
    #expect(away.status == 303 && away.headers["location"] == "/sign-in?next=%2Fcsv%2Flicenses")
    // A token is not a session, and the cookie is not a token.
    #expect(try api.get("/csv/licenses").status == 303)
    let vendor = try PageReader(api)
    #expect(try vendor.get("/v1/licenses?format=csv").status == 401)
    #expect(try vendor.get("/v1/licenses").status == 401)

    try api.addToken("mtr_usage", scopes: "usage:read")
    let usage = try PageReader(api, token: "mtr_usage")
    #expect(try usage.get("/csv/usage?range=last_24h").status == 200)
    let refused = try usage.get("/csv/licenses")
    #expect(refused.status == 403 && refused.body.contains("needs the scope licenses:read"))
    #expect(try usage.get("/csv/tokens").status == 403)

    try api.addToken("mtr_own", scopes: "licenses:read,billing:read", customer: "cus_1")
    let own = try PageReader(api, token: "mtr_own")
    let licenses = try own.get("/csv/licenses").body
    #expect(licenses.contains("lic_1") && !licenses.contains("lic_2"))
    #expect(try own.get("/csv/customers/cus_2/statements/2025-01").status == 404)
    #expect(try own.get("/csv/customers/cus_1/statements/2025-01").status == 200)

    // A customer's link to the portal opens none of them.
    let link = try api.request("POST", "/v1/customers/cus_1/portal-sessions", body: "{}")["url"]
    let portal = try PageReader(api: api).get(
      "/portal?" + (link.components(separatedBy: "?").last ?? ""))
    let customer = PageReader(api: api, cookie: PageReader.cookie(portal))
    #expect(try customer.get("/portal").status == 200)
    #expect(try customer.get("/csv/licenses").status == 303)
    #expect(try customer.get("/portal/csv/licenses").status == 404)
  }

  @Test func `a CSV changes nothing, and refuses what the API refuses`() throws {
    let api = try setup()
    let reader = try PageReader(api)
    #expect(try reader.submit("/csv/licenses", from: "/").status == 405)
    #expect(try reader.get("/csv/licenses?nonsense=1").status == 400)
    #expect(try reader.get("/csv/nothing").status == 404)
    #expect(try reader.get("/csv/usage?range=last_24h&format=json").body.hasPrefix("license_id"))
  }

  @Test func `CSV and curl have the filters of their page`() throws {
    let api = try setup()
    let reader = try PageReader(api)
    for (page, operation) in [
      ("/customers?search=cus_2", "customers?search=cus_2"),
      ("/licenses?plan=gold&domain=example.com", "licenses?plan=gold&domain=example.com"),
      (
        "/audit?action=license.suspend&from=2026-01-01T00%3A00%3A00Z",
        "audit?action=license.suspend&from=2026-01-01T00%3A00%3A00Z"
      ),
      ("/dead-letters?reason=not_json&status=open", "dead-letters?status=open&reason=not_json"),
      ("/webhooks?status=failed", "webhook-deliveries?status=failed"),
      ("/alerts?customer_id=cus_2", "alerts?customer_id=cus_2"),
      ("/tokens?customer_id=cus_2", "tokens?customer_id=cus_2"),
      ("/periods?customer_id=cus_2", "periods?status=due&customer_id=cus_2"),
      ("/periods?customer_id=cus_2", "adjustments?customer_id=cus_2"),
    ] {
      let html = try reader.get(page).body
      #expect(links(html, "Download as CSV").contains("/csv/" + operation), "\(page) \(html)")
      let curl = html.replacing("&amp;", with: "&")
      #expect(curl.contains("/v1/\(operation)&#39;"), "\(page)")
    }
    let some = try reader.get("/csv/customers?search=cus_2").body
    #expect(some.contains("cus_2") && !some.contains("cus_1"))
  }

  @Test func `behind a path prefix the links of statements and the places of new things have it`()
    throws
  {
    let api = try setup(["METER_BASE_PATH": "/billing"])
    let statement = try api.get("/billing/v1/customers/cus_1/statements/2025-01")
    let lines = statement.json["lines"] as? [[String: Any]]
    let own = try #require(lines?.first?["links"] as? [String: String], "\(statement.body)")
    #expect(own["windows"]?.hasPrefix("/billing/v1/usage?license_id=lic_1") == true)
    #expect(own["events"]?.hasPrefix("/billing/v1/usage/events?") == true)
    #expect(try api.get(try #require(own["windows"])).status == 200)
    let made = try api.request(
      "POST", "/billing/v1/customers", body: #"{"customer_id":"cus_9","name":"Nine"}"#)
    #expect(made.headers["location"] == "/billing/v1/customers/cus_9")
  }
}
