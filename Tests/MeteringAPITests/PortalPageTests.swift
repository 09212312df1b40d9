import Foundation
import MeteringTestKit
import Testing

/// A customer's own pages: what a link opens, and what it does not.
@Suite struct PortalPageTests {
  /// Two customers, the first with two licenses and the second with one.
  private func setup(environment: [String: String] = [:]) throws -> APISetup {
    let api = try APISetup(environment: environment)
    try api.addLicense("lic_own", customer: "cus_1")
    try api.addLicense("lic_second", customer: "cus_1")
    try api.addLicense("lic_other", customer: "cus_2")
    return api
  }

  /// Makes a link with the API.
  private func link(_ api: APISetup, _ body: String = "{}") throws -> (path: String, id: String) {
    let made = try api.request(
      "POST", "/v1/customers/cus_1/portal-sessions", body: body)
    #expect(made.status == 201, "\(made.body)")
    let query = made["url"].components(separatedBy: "?")
    return ("/portal?" + (query.count == 2 ? query[1] : ""), made["session_id"])
  }

  private func open(_ api: APISetup, _ path: String) throws -> PageReader {
    let answer = try PageReader(api: api).get(path)
    #expect(answer.status == 200, "\(answer.body)")
    let cookie = answer.headers["set-cookie"] ?? ""
    #expect(cookie.contains("Path=/portal; HttpOnly; SameSite=Strict"))
    return PageReader(api: api, cookie: PageReader.cookie(answer))
  }

  @Test func `a link signs in once, to the customer's own things alone`() throws {
    let api = try setup()
    #expect(try PageReader(api: api).get("/portal").status == 401)
    let link = try self.link(api)
    let customer = try open(api, link.path)
    let again = try PageReader(api: api).get(link.path)
    #expect(again.status == 401)
    #expect(again.body.contains("This link cannot be used"))
    let home = try customer.get("/portal")
    #expect(home.status == 200)
    #expect(home.body.contains("lic_own") && home.body.contains("lic_second"))
    #expect(!home.body.contains("lic_other"))
    #expect(try customer.get("/portal/licenses/lic_own").status == 200)
    for path in [
      "licenses/lic_other", "licenses/lic_none", "deliveries/1", "alerts/1", "webhooks/ep_1",
      "statements/nonsense",
    ] {
      #expect(try customer.get("/portal/\(path)").status == 404, "\(path)")
    }
  }

  @Test func `every link of the portal leads to a page, with and without a path prefix`() throws {
    for base in ["", "/billing"] {
      let api = try setup(environment: base.isEmpty ? [:] : ["METER_BASE_PATH": base])
      let made = try api.request("POST", base + "/v1/customers/cus_1/portal-sessions", body: "{}")
      let query = made["url"].components(separatedBy: "?").last ?? ""
      let opened = try PageReader(api: api).get(base + "/portal?" + query)
      let customer = PageReader(api: api, cookie: PageReader.cookie(opened))
      var seen: Set<String> = []
      for page in ["/portal", "/portal/statements", "/portal/licenses/lic_own", "/portal/alerts"] {
        let html = try customer.get(base + page).body
        seen.formUnion(html.matches(of: /href="(\/[^"#]*)/).map { String($0.output.1) })
      }
      let missing = try customer.get(base + "/portal/alerts/999").body
      seen.formUnion(missing.matches(of: /href="(\/[^"#]*)/).map { String($0.output.1) })
      #expect(seen.contains(base + "/portal"))
      // A page that does not exist can be reloaded, but it still does not exist.
      for address in seen where !address.contains("refresh=") {
        let path = address.replacing("&amp;", with: "&")
        #expect(try customer.get(path).status == 200, "\(path)")
      }
    }
  }

  @Test func `the two kinds of sessions never stand in for each other`() throws {
    let api = try setup()
    let customer = try open(api, link(api).path)
    let vendor = try PageReader(api)
    #expect(try customer.get("/").status == 303)
    #expect(try customer.get("/licenses/lic_own").status == 303)
    #expect(try vendor.get("/portal").status == 401)
    // The same secret under the other cookie's name is no session either.
    let renamed = PageReader(
      api: api, cookie: customer.cookie?.replacing("meter_portal", with: "meter_session"))
    #expect(try renamed.get("/").status == 303)
  }

  @Test func `a session for reading changes nothing, and a revoked one shows nothing`() throws {
    let api = try setup()
    let link = try self.link(api)
    let customer = try open(api, link.path)
    let page = try customer.get("/portal/webhooks")
    #expect(page.status == 200)
    #expect(!page.body.contains("Add an endpoint"))
    let refused = try customer.submit(
      "/portal/webhooks", from: "/portal", ["url": "https://example.com/h"])
    #expect(refused.status == 403)
    #expect(
      try api.request("DELETE", "/v1/customers/cus_1/portal-sessions/\(link.id)").status == 204)
    #expect(try customer.get("/portal").status == 401)
  }

  @Test func `a session for some licenses shows no others, nor what belongs to the whole customer`()
    throws
  {
    let api = try setup()
    let customer = try open(api, link(api, #"{"licenses":["lic_own"]}"#).path)
    let home = try customer.get("/portal")
    #expect(home.body.contains("lic_own") && !home.body.contains("lic_second"))
    #expect(!home.body.contains("/portal/statements"))
    #expect(try customer.get("/portal/licenses/lic_own").status == 200)
    #expect(try customer.get("/portal/licenses/lic_second").status == 404)
    for path in ["statements", "webhooks", "alerts"] {
      let refused = try customer.get("/portal/\(path)")
      #expect(refused.status == 403, "\(path)")
      // A customer can do nothing with tokens and commands.
      #expect(refused.body.contains("The link that you signed in with does not allow this."))
      #expect(!refused.body.contains("meterctl") && !refused.body.contains("token needs"))
      #expect(refused.body.contains("<a href=\"/portal\">Go to your usage</a>"))
    }
  }

  @Test func `only pages that the setting names may show the portal in a frame`() throws {
    let api = try setup(environment: [
      "METER_PORTAL_FRAME_ANCESTORS": "https://app.example.com"
    ])
    let customer = try open(api, link(api, #"{"theme":"dark"}"#).path)
    let home = try customer.get("/portal")
    let policy = home.headers["content-security-policy"]
    #expect(policy?.hasSuffix("frame-ancestors https://app.example.com") == true)
    #expect(home.headers["x-frame-options"] == nil)
    #expect(home.body.contains("<html lang=\"en\" data-theme=\"dark\">"))
    let vendor = try PageReader(api).get("/")
    #expect(vendor.headers["content-security-policy"]?.hasSuffix("frame-ancestors 'none'") == true)
  }

  @Test func `the sum of a session for many licenses has all that are still the customer's`() throws
  {
    let api = try setup()
    let ids = (0..<120).map { "lic_m\($0)" }
    try api.database.execute(
      """
      insert into license (license_id, customer_id, plan, features, domains, seats, issued_at,
        expires_at, billing_anchor_day)
      select 'lic_m' || i, 'cus_1', 'professional', '{}', '{example.com}', 10,
        now() - interval '400 days', now() + interval '300 days', 1 from generate_series(0, 119) i;
      insert into usage_pending
      select 1, 0, 'lic_m' || i, 'api_calls', date_trunc('hour', now()), 0, 0, 100, 1, '[5,100,1]', ''
      from generate_series(0, 119) i
      """)
    let body = #"{"licenses":["# + ids.map { "\"\($0)\"" }.joined(separator: ",") + "]}"
    let customer = try open(api, link(api, body).path)
    #expect(try customer.get("/portal").body.contains("12,000"))
    // A license changes hands after the link was made.
    try api.database.execute("update license set customer_id = 'cus_2' where license_id = 'lic_m7'")
    let home = try customer.get("/portal")
    #expect(home.status == 200 && home.body.contains("11,900"), "\(home.body)")
    // Nothing of the customer is shown once no license is left.
    try api.database.execute(
      "update license set customer_id = 'cus_2' where license_id like 'lic_m%'")
    let empty = try customer.get("/portal")
    #expect(empty.status == 200 && !empty.body.contains("11,900"))
  }
}
