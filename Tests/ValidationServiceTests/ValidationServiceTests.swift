import DomainNames
import Foundation
import KafkaTransport
import Licensing
import Metering
import MeteringTestKit
import Testing

@testable import ValidationService

@Suite(.serialized)
struct ValidationServiceTests {
  @Test(
    "A valid answer's signature covers all of it, and it makes one usage and one validation event")
  func valid() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    // The events have the domain as it is compared, so that usage has one row for it.
    let answer = try setup.validate(
      "lic_1", "Example.COM.:443", extra: #","nonce":"nonce-0123456789""#)
    #expect(answer.status == 200 && answer["valid"] == "1" && answer["code"] == "valid")
    #expect(answer["licenseId"] == "lic_1" && answer["plan"] == "professional")
    #expect(answer.json["features"] as? [String] == ["analytics", "webhooks"])
    #expect(answer.json["limits"] as? [String: Int] == ["apiCalls": 50_000, "seats": 10])
    #expect(answer.headers["access-control-allow-origin"] == "*")
    // The hash below is the SHA-256 of "lic_1".
    #expect(answer["domain"] == "example.com")
    #expect(answer["licenseKeyHash"] == "7kBNq9s0OX55tunNS5SBsmRn8JiBW0xgbkUfl2CzZS8")
    let published = try JSONWebKeySet(
      json: try setup.request("GET", "/.well-known/jwks.json").body.utf8)
    let signed = try VerdictVerifier(keys: published).verify(
      signature: answer["signature"],
      question: VerdictQuestion(
        licenseKey: "lic_1",
        domain: DomainName("example.com", rules: PublicSuffixList.shared!),
        nonce: "nonce-0123456789"),
      now: Int64(Date().timeIntervalSince1970 * 1_000))
    let covered = try #require(
      JSONSerialization.jsonObject(with: Data(signed)) as? [String: Any])
    var unsigned = answer.json
    unsigned["signature"] = nil
    func sorted(_ object: [String: Any]) throws -> Data {
      try JSONSerialization.data(withJSONObject: object, options: .sortedKeys)
    }
    #expect(try sorted(unsigned) == sorted(covered))
    let validation = try setup.events("license.validations.v1", atLeast: 1)[0]
    #expect(validation["subject"] as? String == "lic_1")
    #expect(validation["source"] as? String == "/validation/eu-1")
    let data = try #require(validation["data"] as? [String: Any])
    #expect(data["code"] as? String == "valid" && data["domain"] as? String == "example.com")
    #expect(data["client_ip"] as? String == "127.0.0.0")
    let usage = try setup.events(UsageLog.topic, atLeast: 1)
    #expect(usage.count == 1 && usage[0]["subject"] as? String == "lic_1")
    let used = try #require(usage[0]["data"] as? [String: Any])
    #expect(used["quantity"] as? Int == 1 && used["domain"] as? String == "example.com")
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
  }

  @Test("Every verdict is given by id and by token, and a registered record beats a token's claims")
  func verdicts() throws {
    let setup = try Setup()
    try setup.addLicense("lic_ok")
    try setup.addLicense("lic_suspended", changing: "status = 'suspended'")
    try setup.addLicense("lic_canceled", changing: "status = 'canceled'")
    try setup.addLicense("lic_future", changing: "issued_at = now() + interval '1 day'")
    try setup.addLicense("lic_grace", changing: "expires_at = now() - interval '1 day'")
    try setup.addLicense(
      "lic_trial", changing: "expires_at = now() - interval '1 day', trial = true")
    try setup.addLicense("lic_expired", changing: "expires_at = now() - interval '8 days'")
    func code(_ key: String, _ domain: String = "example.com") throws -> String {
      let answer = try setup.validate(key, domain)
      #expect(answer.status == 200, "\(answer.body)")
      if answer["valid"] != "1" {
        #expect((answer.json["features"] as? [String])?.isEmpty == true)
        #expect(answer.json["error"] != nil)
      }
      return answer["code"]
    }
    #expect(try code("lic_ok") == "valid")
    #expect(try code("lic_ok", "deep.www.example.org:8443") == "valid")
    #expect(try code("lic_ok", "pirated-site.com") == "domain_mismatch")
    #expect(try code("lic_ok", "localhost") == "domain_mismatch")
    #expect(try code("lic_ok", "https://example.com/") == "domain_mismatch")
    #expect(try setup.validate("lic_ok", "WWW.Example.org.:443")["domain"] == "www.example.org")
    #expect(try setup.validate("lic_ok", "buy at evil.com")["domain"] == "<null>")
    #expect(try code("lic_nobody") == "not_found")
    #expect(try code("lic_suspended") == "suspended")
    #expect(try code("lic_canceled") == "canceled")
    #expect(try code("lic_future") == "not_yet_valid")
    #expect(try code("lic_grace") == "grace")
    #expect(try code("lic_trial") == "expired")
    #expect(try code("lic_expired") == "expired")
    let now = Int64(Date().timeIntervalSince1970) * 1_000
    func token(_ id: String, expires: Int64 = 86_400_000) throws -> String {
      try #require(
        LicenseSigner(keys: setup.keys)?.token(
          LicenseClaims(
            licenseID: Identifier(id), domains: ["token.example"], plan: "p",
            issuedAt: now - 864_000_000,
            expiresAt: now + expires)))
    }
    let good = try token("lic_unregistered")
    #expect(try code(good, "token.example") == "valid")
    #expect(try code(good, "other.example") == "domain_mismatch")
    #expect(try code(String(good.dropLast(4)) + "AAAA", "token.example") == "invalid_signature")
    #expect(try code("eyJhbGciOiJub25lIn0.e30.") == "invalid_signature")
    #expect(try code(try token("lic_suspended"), "token.example") == "suspended")
    #expect(try code(try token("lic_ok"), "example.com") == "valid")
    #expect(try code(try token("lic_old", expires: -8 * 86_400_000), "token.example") == "expired")
    // A key that does not verify leaves no trace on any license.
    let told = try setup.events("license.validations.v1", atLeast: 19)
    let unverified = told.filter {
      ($0["data"] as? [String: Any])?["code"] as? String == "invalid_signature"
    }
    #expect(unverified.count == 2)
    #expect(unverified.allSatisfy { $0["subject"] as? String == "(unverified)" })
  }

  @Test("Changes of a license, its limits and its usage arrive by notification")
  func changes() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    func becomes(_ code: String, _ sql: String) throws {
      try setup.database.execute(sql)
      // Only the notification can make it known so soon.
      try eventually("it is \(code)", within: 5) { try setup.validate("lic_1")["code"] == code }
    }
    try becomes("suspended", "update license set status = 'suspended'")
    try becomes("valid", "update license set status = 'active'")
    try becomes("domain_mismatch", "update license set domains = '{other.com}'")
    try becomes("valid", "update license set domains = '{example.com}'")
    let over = """
      insert into limit_state (license_id, meter, period_start, period_end, limit_quantity, thresholds, used, version)
      values ('lic_1', 'api_calls', current_date - 3, current_date + 20, 10, '{100}', 11, 1);
      notify limit_state
      """
    try becomes("limit_exceeded", over)
    try setup.database.execute("update license set overage_policy = 'allow'")
    try eventually("it stays valid, and says so") {
      let answer = try setup.validate("lic_1")
      return answer["code"] == "valid" && answer["overLimit"] == "1"
    }
    try becomes("valid", "update limit_state set used = 0; notify limit_state")
    // A license that did not exist is known as soon as it does.
    #expect(try setup.validate("lic_2")["code"] == "not_found")
    try setup.addLicense("lic_2")
    try eventually("it is found", within: 5) { try setup.validate("lic_2")["code"] == "valid" }
    try setup.database.execute("delete from license where license_id = 'lic_2'")
    try eventually("it is gone", within: 5) { try setup.validate("lic_2")["code"] == "not_found" }
  }

  @Test("usage replaces the one call, and an Idempotency-Key names it")
  func usage() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into api_token (token_id, name, token_hash, scopes, customer_id)
      values ('tok_1', 'n', sha256('mtr_0123456789abcdef'), '{usage:write}', 'cus_1')
      """)
    let token = ["Authorization": "Bearer mtr_0123456789abcdef"]
    for _ in 0..<2 {
      _ = try setup.validate(
        "lic_1", extra: #","usage":{"meter":"exports","quantity":7}"#,
        headers: token.merging(["Idempotency-Key": "order-1"]) { $1 })
    }
    _ = try setup.validate("lic_1", extra: #","usage":{"quantity":0}"#, headers: token)
    _ = try setup.validate("lic_1", "pirated-site.com")
    #expect(try setup.events("license.validations.v1", atLeast: 4).count == 4)
    let usage = try setup.events(UsageLog.topic, atLeast: 2)
    #expect(usage.count == 2)
    #expect(usage.allSatisfy { $0["id"] as? String == "order-1;exports;7" })
    #expect(usage.allSatisfy { $0["source"] as? String == "/validation/tok_1" })
    #expect((usage[0]["data"] as? [String: Any])?["meter"] as? String == "exports")
  }

  @Test("Invalid requests get a problem, and nothing else happens")
  func malformed() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    func problem(_ method: String, _ path: String, _ body: String) throws -> (Int, String) {
      let answer = try setup.request(method, path, body: body)
      #expect(answer.headers["content-type"] == "application/problem+json")
      #expect(answer["status"] == "\(answer.status)" && answer.json["detail"] != nil)
      // Scripts of any origin may read what is wrong.
      #expect(
        (answer.headers["access-control-allow-origin"] == "*") == (path == "/v1/licenses/validate"))
      return (answer.status, answer["code"])
    }
    let path = "/v1/licenses/validate"
    #expect(try problem("POST", path, "") == (400, "not_json"))
    #expect(try problem("POST", path, "{") == (400, "not_json"))
    #expect(try problem("POST", path, "[]") == (400, "bad_request"))
    #expect(try problem("POST", path, #"{"licenseKey":"a"}"#) == (400, "bad_request"))
    #expect(
      try problem("POST", path, #"{"licenseKey":5,"domain":"a.com"}"#) == (400, "bad_request"))
    #expect(
      try problem("POST", path, #"{"licenseKey":"a","licenseKey":"b","domain":"a.com"}"#)
        == (400, "bad_request"))
    #expect(
      try problem("POST", path, #"{"licenseKey":"lic_1","domain":"a.com","nonce":"short"}"#)
        == (400, "bad_request"))
    #expect(
      try problem("POST", path, #"{"licenseKey":"lic_1","domain":"a.com","usage":{"quantity":-1}}"#)
        == (400, "bad_usage"))
    #expect(
      try problem("POST", path, "{\"a\":\"" + String(repeating: "x", count: 66_000) + "\"}")
        == (413, "too_large"))
    #expect(try problem("GET", path, "") == (405, "method_not_allowed"))
    #expect(try problem("GET", "/nothing", "") == (404, "not_found"))
    #expect(try problem("POST", "/v1/events", "[]") == (401, "unauthorized"))
    #expect(try setup.request("OPTIONS", path).status == 204)
    #expect(try setup.request("GET", "/openapi.yaml").body.hasPrefix("openapi: 3.1"))
  }

  @Test("If tokens are required, a validation needs a valid one, and a retry with it counts once")
  func requiredTokens() throws {
    let setup = try Setup(environment: ["METER_REQUIRE_API_KEY": "true"])
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into api_token (token_id, name, token_hash, scopes, customer_id, expires_at) values
        ('tok_1', 'n', sha256('mtr_0123456789abcdef'), '{licenses:validate}', 'cus_1', null),
        ('tok_3', 'n', sha256('mtr_scopeless'), '{billing:read}', 'cus_1', null),
        ('tok_2', 'n', sha256('mtr_expired'), '{}', 'cus_1', now() - interval '1 second')
      """)
    #expect(try setup.validate("lic_1").status == 401)
    let refused = try setup.validate("lic_1", headers: ["Authorization": "Bearer mtr_expired"])
    #expect(refused.status == 401 && refused.headers["www-authenticate"] == "Bearer")
    #expect(try setup.validate("lic_1", headers: ["Authorization": "Basic eDp5"]).status == 401)
    let other = try setup.validate("lic_1", headers: ["Authorization": "Bearer mtr_scopeless"])
    #expect(other.status == 403 && other["code"] == "missing_scope")
    for _ in 0..<2 {
      let answer = try setup.validate(
        "lic_1",
        headers: ["Authorization": "bearer mtr_0123456789abcdef", "Idempotency-Key": "call-1"])
      #expect(answer["code"] == "valid")
    }
    let usage = try setup.events(UsageLog.topic, atLeast: 2)
    #expect(usage.allSatisfy { $0["source"] as? String == "/validation/tok_1" })
    #expect(usage.allSatisfy { $0["id"] as? String == "call-1" })
  }

  @Test("Without PostgreSQL it answers from what it knows, and says so")
  func databaseAway() throws {
    let postgres = try PrivatePostgres()
    let database = TestDatabase(url: try postgres.makeDatabase())
    let setup = try Setup(databaseURL: database.url)
    try database.execute(
      """
      insert into customer values ('c', 'C');
      insert into license (license_id, customer_id, plan, domains, issued_at, expires_at)
      values ('lic_1', 'c', 'p', '{example.com}', now(), now() + interval '9 days')
      """)
    #expect(try setup.validate("lic_1")["code"] == "valid")
    try postgres.stop(mode: "immediate")
    try eventually("it says so") {
      HTTPGet.get(port: setup.adminPort, "/health/ready")?.body.contains("degraded") == true
    }
    #expect(HTTPGet.get(port: setup.adminPort, "/health/ready")?.status == 200)
    #expect(try setup.validate("lic_1")["code"] == "valid")
    let unknown = try setup.validate("lic_2")
    #expect(unknown.status == 503 && unknown.headers["retry-after"] != nil)
    try postgres.start()
    try TestDatabase(url: database.url).execute("update license set status = 'suspended'")
    try eventually("it has caught up", within: 20) {
      try setup.validate("lic_1")["code"] == "suspended"
    }
  }

  @Test("Without Kafka it answers as usual, and what a killed process had accepted arrives")
  func kafkaAway() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    try setup.log.cluster.setBrokerDown()
    for _ in 0..<50 { #expect(try setup.validate("lic_1")["code"] == "valid") }
    setup.process.killNow()
    try setup.log.cluster.setBrokerUp()
    try setup.restart()
    let ids = try setup.events(UsageLog.topic, atLeast: 51).map { $0["id"] as? String }
    #expect(Set(ids).count == 51)
  }

  @Test
  func `A caller who only knows an id does not learn what was sold under it`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.addToken("mtr_customer")
    func isBare(_ answer: Setup.Answer) -> Bool {
      answer.json["plan"] is NSNull && answer.json["expiresAt"] is NSNull
        && (answer.json["limits"] as? [String: Int])?.isEmpty == true
        && (answer.json["features"] as? [String])?.isEmpty == true
    }
    let foreign = try setup.validate("lic_1", "pirated-site.com")
    #expect(foreign["code"] == "domain_mismatch" && isBare(foreign), "\(foreign.body)")
    let customers = try setup.validate(
      "lic_1", "pirated-site.com", headers: ["Authorization": "Bearer mtr_customer"])
    #expect(customers["code"] == "domain_mismatch" && customers["plan"] == "professional")
    #expect(try setup.validate("lic_1")["plan"] == "professional")
    try setup.database.execute("update license set status = 'suspended'")
    try eventually("it is suspended") { try setup.validate("lic_1")["code"] == "suspended" }
    #expect(isBare(try setup.validate("lic_1")))
    // The signed license says it itself.
    let signed = try #require(
      LicenseSigner(keys: setup.keys)?.token(
        LicenseClaims(
          licenseID: "lic_1", domains: ["example.com"], plan: "professional",
          issuedAt: 1_700_000_000_000, expiresAt: 4_000_000_000_000)))
    let holder = try setup.validate(signed)
    #expect(holder["code"] == "suspended" && holder["plan"] == "professional")
    #expect((holder.json["features"] as? [String])?.isEmpty == true)
  }

  @Test func `METER_MAX_QUANTITY bounds a validation's usage, upwards and downwards`() throws {
    for (setting, most) in [("5000000000", 5_000_000_000), ("10", 10)] {
      let setup = try Setup(environment: ["METER_MAX_QUANTITY": setting])
      try setup.addLicense("lic_1")
      try setup.addToken("mtr_writer")
      func use(_ quantity: Int) throws -> (Int, String) {
        let answer = try setup.validate(
          "lic_1", extra: #","usage":{"quantity":\#(quantity)}"#,
          headers: ["Authorization": "Bearer mtr_writer"])
        return (answer.status, answer["code"])
      }
      #expect(try use(most) == (200, "valid"))
      #expect(try use(most + 1) == (400, "bad_usage"))
      let recorded = try setup.events("license.usage.v1", atLeast: 1)
      #expect((recorded.first?["data"] as? [String: Any])?["quantity"] as? Int == most)
    }
  }

  @Test func `A limit of 0 holds before anything of a period is used, unless there is room`() throws
  {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.database.execute("update license_limit set quantity = 0; notify limit_state")
    #expect(try setup.database.integer("select count(*) from limit_state") == 0)
    try eventually("the limit is known") {
      try setup.validate("lic_1")["code"] == "limit_exceeded"
    }
    try setup.database.execute(
      """
      insert into limit_state (license_id, meter, period_start, period_end, limit_quantity, thresholds,
        used, version)
      select 'lic_1', 'api_calls', current_date - 5, current_date + 5, 0, '{100}', -3, 1;
      notify limit_state
      """)
    try eventually("the credit is known") { try setup.validate("lic_1")["code"] == "valid" }
  }
}
