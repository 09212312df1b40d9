import Foundation
import MeteringTestKit
import Testing

/// Who may see the pages, and what a page does not let others do.
@Suite struct PageAccessTests {
  @Test func `nobody sees a page before signing in, and then gets where they wanted`() throws {
    let api = try APISetup()
    let away = try PageReader(api: api).get("/licenses?status=active")
    #expect(away.status == 303)
    #expect(away.headers["location"] == "/sign-in?next=%2Flicenses%3Fstatus%3Dactive")
    let reader = PageReader(api: api)
    let refused = try reader.send("/sign-in", ["token": "mtr_wrong", "next": "/alerts"])
    #expect(refused.status == 401)
    #expect(refused.body.contains("This token is unknown"))
    #expect(refused.body.contains("name=\"next\" value=\"/alerts\""))
    #expect(refused.headers["set-cookie"] == nil)
    let signedIn = try reader.send(
      "/sign-in", ["token": APISetup.adminToken, "next": "/alerts?type=x"])
    #expect(signedIn.status == 303)
    #expect(signedIn.headers["location"] == "/alerts?type=x")
    let cookie = signedIn.headers["set-cookie"] ?? ""
    #expect(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"))
    #expect(!cookie.contains("Secure"), "this machine is reached without TLS")
    #expect(!cookie.contains(APISetup.adminToken))
  }

  @Test func `a cookie is sent by https only where the pages are reached by https`() throws {
    let api = try APISetup(environment: ["METER_PUBLIC_URL": "https://metering.example.com"])
    let answer = try PageReader(api: api).send("/sign-in", ["token": APISetup.adminToken])
    #expect(answer.headers["set-cookie"]?.hasSuffix("; Secure") == true)
  }

  @Test func `signing in leads only to our own pages`() throws {
    let api = try APISetup()
    let places = [
      "https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "",
      "/a\u{2028}b",
    ]
    for next in places {
      let answer = try PageReader(api: api).send(
        "/sign-in", ["token": APISetup.adminToken, "next": next])
      #expect(answer.status == 303)
      #expect(answer.headers["location"] == "/", "\(next)")
    }
  }

  @Test func `a session ends with its token and by signing out`() throws {
    let api = try APISetup()
    try api.addToken("mtr_short", scopes: "usage:read")
    let reader = try PageReader(api, token: "mtr_short")
    #expect(try reader.get("/").status == 200)
    try api.database.execute(
      "update api_token set revoked_at = now() where name = 'test' and token_id = 'tok_mtr_short'")
    #expect(try reader.get("/").status == 303)

    let other = try PageReader(api)
    let out = try other.submit("/sign-out", from: "/")
    #expect(out.status == 303)
    #expect(out.headers["set-cookie"]?.contains("Max-Age=0") == true)
    #expect(try other.get("/").status == 303)
    #expect(
      try api.database.integer("select count(*) from audit_log where action = 'session.sign_in'")
        == 2)
  }

  @Test func `a form counts only with the CSRF token of its own session`() throws {
    let api = try APISetup()
    let (one, other) = (try PageReader(api), try PageReader(api))
    let csrf = try other.csrf("/")
    for fields in [[:], ["csrf": ""], ["csrf": csrf], ["csrf": "0"]] {
      #expect(try one.send("/sign-out", fields).status == 403)
      #expect(try one.send("/adjustments", fields).status == 403)
    }
    let own = ["csrf": try one.csrf("/")]
    #expect(
      try one.send("/sign-out", own, headers: ["Sec-Fetch-Site": "cross-site"]).status == 403)
    #expect(
      try one.send("/sign-out", own, headers: ["Origin": "https://evil.example"]).status == 403)
    #expect(try one.get("/").status == 200, "nothing of this signed anybody out")
    #expect(try one.send("/sign-out", own).status == 303)
  }

  @Test func `every page forbids what it does not need`() throws {
    let api = try APISetup()
    let reader = try PageReader(api)
    for path in ["/", "/sign-in", "/search?q=x", "/events"] {
      let answer = try reader.get(path)
      #expect(answer.status == 200, "\(path) \(answer.body)")
      let policy = answer.headers["content-security-policy"] ?? ""
      #expect(policy.hasPrefix("default-src 'none'; style-src 'self'; script-src 'self'"))
      #expect(policy.hasSuffix("frame-ancestors 'none'"))
      #expect(answer.headers["x-frame-options"] == "DENY")
      #expect(answer.headers["cache-control"] == "no-store")
      #expect(answer.headers["content-type"] == "text/html; charset=utf-8")
      #expect(answer.headers["x-content-type-options"] == "nosniff")
    }
    #expect(
      try reader.get("/assets/style.css").headers["content-type"] == "text/css; charset=utf-8")
    #expect(try reader.get("/assets/../openapi.yaml").status == 404)
  }

  @Test func `behind a path prefix every address has it`() throws {
    let api = try APISetup(environment: ["METER_BASE_PATH": "/billing"])
    let away = try PageReader(api: api).get("/billing/licenses")
    #expect(away.headers["location"] == "/billing/sign-in?next=%2Fbilling%2Flicenses")
    let signedIn = try PageReader(api: api).send(
      "/billing/sign-in", ["token": APISetup.adminToken, "next": "/billing/alerts"])
    #expect(signedIn.headers["location"] == "/billing/alerts")
    #expect(signedIn.headers["set-cookie"]?.contains("Path=/billing;") == true)
    let reader = PageReader(api: api, cookie: PageReader.cookie(signedIn))
    let made = try api.request(
      "POST", "/billing/v1/customers", body: #"{"customer_id":"cus 1","name":"One"}"#)
    #expect(made.headers["location"] == "/billing/v1/customers/cus%201")
    let html = try reader.get("/billing/").body
    for range in html.ranges(of: /(?:href|action|src)="([^"#][^"]*)"/) {
      #expect(html[range].contains("=\"/billing/"), "\(html[range])")
    }
  }

  @Test func `while PostgreSQL is away the page says so, and comes back by itself`() throws {
    let server = try PrivatePostgres()
    let database = try server.makeDatabase()
    let api = try APISetup(databaseURL: database)
    let reader = try PageReader(api)
    #expect(try reader.get("/").status == 200)
    try server.stop(mode: "immediate")
    let away = try reader.get("/licenses")
    #expect(away.status == 503)
    #expect(away.headers["retry-after"] != nil)
    #expect(away.headers["content-type"] == "text/html; charset=utf-8")
    #expect(away.body.contains("<meta http-equiv=\"refresh\" content=\"3\">"))
    #expect(away.body.contains("The database does not answer"))
    try server.start()
    try eventually("the overview comes back") { (try? reader.get("/"))?.status == 200 }
  }
}
