import Foundation
import MeteringTestKit
import Testing

@Suite(.serialized)
struct ServiceTests {
  @Test func `The status needs a token, and SIGTERM ends the service with status 0`() throws {
    let setup = try APISetup()
    let refused = try setup.get("/v1/status", token: nil)
    #expect(refused.status == 401 && refused["code"] == "unauthorized")
    #expect(refused.headers["content-type"] == "application/problem+json")
    #expect(refused.headers["www-authenticate"] == "Bearer")
    let answer = try setup.get("/v1/status", headers: ["X-Request-Id": "mine-1"])
    #expect(answer.status == 200, "\(answer.body)")
    #expect(answer["missing"] == "0" && answer["pending_rows"] == "0")
    #expect(answer.headers["x-request-id"] == "mine-1")
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0, "\(setup.process.output)")
    #expect(!setup.process.output.contains("ERROR"), "\(setup.process.output)")
  }

  @Test func `Unknown paths, methods and parameters are problems that say what is wrong`() throws {
    let setup = try APISetup()
    for path in ["/v1/nothing", "/v1/status/", "//v1/status", "/v1/%zz", "/v1/../v1/status"] {
      let answer = try setup.get(path)
      #expect(answer.status == 404 && answer["code"] == "not_found", "\(path)")
    }
    let method = try setup.request("POST", "/v1/status", body: "{}")
    #expect(method.status == 405 && method.headers["allow"] == "GET, HEAD")
    let unknown = try setup.get("/v1/status?colour=red&colour=blue")
    #expect(unknown.status == 400 && unknown["code"] == "bad_request")
    let errors = unknown.json["errors"] as? [[String: String]]
    #expect(errors?.count == 1 && errors?.first?["parameter"] == "colour")
    let broken = try setup.get("/v1/status?a=%C3%28")
    #expect(broken.status == 400)
    #expect(try setup.exchange(Array("not http\r\n\r\n".utf8))?.status == 400)
    #expect(try setup.get("/v1/status").status == 200)
  }

  @Test
  func `A token that is revoked, expired, of another scope or bound to a customer is refused`()
    throws
  {
    let setup = try APISetup()
    try setup.addToken("mtr_old", scopes: "admin", expires: "now() - interval '1 s'")
    try setup.addToken("mtr_hooks", scopes: "webhooks:read")
    try setup.addToken("mtr_customer", scopes: "usage:read", customer: "cus_1")
    #expect(try setup.get("/v1/status", token: "mtr_old").status == 401)
    let forbidden = try setup.get("/v1/status", token: "mtr_hooks")
    #expect(forbidden.status == 403 && forbidden["code"] == "forbidden")
    #expect(forbidden["detail"].contains("usage:read"))
    #expect(try setup.get("/v1/status", token: "mtr_customer").status == 404)
    try setup.database.execute("update api_token set revoked_at = now()")
    #expect(try setup.get("/v1/status").status == 401)
  }

  @Test func `It is not ready without PostgreSQL, answers 503, and comes back by itself`() throws {
    let server = try PrivatePostgres()
    let setup = try APISetup(databaseURL: try server.makeDatabase())
    #expect(try setup.get("/v1/status").status == 200)
    try server.stop(mode: "immediate")
    try eventually("it is not ready") {
      HTTPGet.get(port: setup.adminPort, "/health/ready")?.status == 503
    }
    let answer = try setup.get("/v1/status")
    #expect(answer.status == 503 && answer["code"] == "unavailable")
    #expect(answer.headers["retry-after"] == "1")
    try server.start()
    try setup.waitUntilReady()
    #expect(try setup.get("/v1/status").status == 200)
  }
}
