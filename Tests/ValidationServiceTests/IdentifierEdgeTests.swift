import Foundation
import Metering
import MeteringTestKit
import Testing

@testable import ValidationService

/// Identifiers at the edge of the service. They are compared by their bytes, contain no NUL, and
/// each has its own key.
@Suite(.serialized)
struct IdentifierEdgeTests {
  private let token = "mtr_0123456789abcdef"

  private func addToken(
    _ setup: Setup, _ token: String, customer: String?, scopes: String = "usage:write"
  ) throws {
    try setup.database.execute(
      """
      insert into api_token (token_id, name, token_hash, scopes, customer_id)
      values ('tok_\(token.suffix(4))', 'n', sha256('\(token)'), '{\(scopes)}',
        \(customer.map { "'\($0)'" } ?? "null"))
      """)
  }

  private func event(_ id: String, source: String = "/shop", subject: String) -> String {
    let time = UsageEventText.time(milliseconds: UsageEventText.now)
    return """
      {"specversion":"1.0","id":"\(id)","source":"\(source)","type":"license.usage.recorded",\
      "subject":"\(subject)","time":"\(time)","data":{"quantity":3}}
      """
  }

  private func post(_ setup: Setup, _ events: [String]) throws -> Setup.Answer {
    try setup.request(
      "POST", "/v1/events", body: "[" + events.joined(separator: ",") + "]",
      headers: [
        "Authorization": "Bearer \(token)",
        "Content-Type": "application/cloudevents-batch+json",
      ])
  }

  @Test func `Two spellings of a license's id are two licenses`() throws {
    let setup = try Setup()
    try setup.addLicense("LIC-K1")
    // Whichever is asked for first, the other one is not mistaken for it.
    for _ in 0..<3 {
      #expect(try setup.validate("LIC-\u{212A}1")["code"] == "not_found")
      #expect(try setup.validate("LIC-K1")["code"] == "valid")
    }
    try setup.addLicense("M\u{FC}ller", customer: "cus_1")
    #expect(try setup.validate("Mu\u{308}ller")["code"] == "not_found")
    #expect(try setup.validate("M\u{FC}ller")["code"] == "valid")
    try setup.addLicense("Mu\u{308}ller", customer: "cus_2", changing: "plan = 'other'")
    try eventually("the other spelling is a separate license") {
      try setup.validate("Mu\u{308}ller")["plan"] == "other"
    }
    #expect(try setup.validate("M\u{FC}ller")["plan"] == "professional")
    let usage = try setup.events(UsageLog.topic, atLeast: 6)
    #expect(
      usage.allSatisfy {
        ($0["subject"] as? String)?.utf8.elementsEqual("LIC-\u{212A}1".utf8) == false
      })
  }

  @Test func `A customer's token does not work for a customer that is spelled alike`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1", customer: "M\u{FC}ller")
    try setup.addLicense("lic_2", customer: "Mu\u{308}ller")
    try addToken(setup, token, customer: "Mu\u{308}ller")
    #expect(try post(setup, [event("a", subject: "lic_1")]).status == 403)
    #expect(try post(setup, [event("a", subject: "lic_2")]).status == 202)
  }

  @Test func `A NUL in an identifier is refused, and other requests are not affected`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try addToken(setup, token, customer: "cus_1")
    for bad in [
      event("a", subject: #"lic_1\u0000"#), event(#"a\u0000"#, subject: "lic_1"),
      event("a", source: #"/\u0000"#, subject: "lic_1"),
      event("a", subject: "lic_1").replacing("3}", with: #"3,"domain":"\u0000"}"#),
    ] {
      let answer = try post(setup, [event("good", subject: "lic_1"), bad])
      #expect(answer.status == 400 && answer["code"] == "nul_in_text", "\(answer.body)")
    }
    #expect(try setup.validate(#"lic_1\u0000"#).status == 400)
    #expect(try setup.validate("lic_1", #"example.com\u0000"#).status == 400)
    #expect(try setup.validate("lic_1")["code"] == "valid")
    let health = HTTPGet.get(port: setup.adminPort, "/health/ready")
    #expect(health?.status == 200 && health?.body.contains("degraded") == false)
  }

  @Test func `Two sources with one id are two events, whatever the sources look like`() throws {
    let sources = [
      "a", "/a", "//a", "%2E/a", "/%2E/a", "%a", "/%a", "%25a", "/%25a", "https://a", "", "/",
    ]
    var made: Set<[UInt8]> = []
    for customer in ["c", "c/x", "c%2Fx", "c/"] as [Identifier] {
      for source in sources {
        let own = ReportedEvents.source(source, of: customer)
        #expect(own.hasPrefix("/customers/"))
        made.insert(Array(own.utf8))
      }
    }
    #expect(made.count == 4 * sources.count)
    #expect(ReportedEvents.source("/shop", of: "cus_1") == "/customers/cus_1/shop")
    let setup = try Setup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try addToken(setup, token, customer: "cus_1")
    let events = ["a", "/a"].map { event("1", source: $0, subject: "lic_1") }
    #expect(try post(setup, events).status == 202)
    let found = try setup.events(UsageLog.topic, atLeast: 2).map { $0["source"] as? String }
    #expect(Set(found) == ["/customers/cus_1/a", "/customers/cus_1/%2E/a"])
  }

  @Test func `Usage needs a token that may write it for the license`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try setup.addLicense("lic_2", customer: "cus_2")
    try addToken(setup, token, customer: "cus_1")
    try addToken(setup, "mtr_vendor", customer: nil)
    try addToken(setup, "mtr_reader", customer: "cus_1", scopes: "usage:read")
    func use(_ license: String, _ token: String?, quantity: Int = 7) throws -> Setup.Answer {
      try setup.validate(
        license, extra: #","usage":{"meter":"exports","quantity":\#(quantity)}"#,
        headers: token.map { ["Authorization": "Bearer \($0)"] } ?? [:])
    }
    let anonymous = try use("lic_1", nil, quantity: 1_000_000_000)
    #expect(anonymous.status == 401 && anonymous["code"] == "unauthorized")
    let reader = try use("lic_1", "mtr_reader")
    #expect(reader.status == 403 && reader["code"] == "missing_scope")
    for foreign in ["lic_2", "lic_nobody"] {
      let answer = try use(foreign, token)
      #expect(answer.status == 403 && answer["code"] == "not_your_license")
    }
    #expect(try use("lic_1", token)["code"] == "valid")
    #expect(try use("lic_2", "mtr_vendor")["code"] == "valid")
    // For a customer's token, the licenses of others do not exist.
    let bearer = ["Authorization": "Bearer \(token)"]
    #expect(try setup.validate("lic_2", headers: bearer)["code"] == "not_found")
    #expect(try setup.validate("lic_1", headers: bearer)["code"] == "valid")
    let usage = try setup.events(UsageLog.topic, atLeast: 3)
    #expect(usage.count == 3)
    let quantities = usage.compactMap { ($0["data"] as? [String: Any])?["quantity"] as? Int }
    #expect(quantities.sorted() == [1, 7, 7])
  }

  @Test func `An Idempotency-Key belongs to its license and its token, with its usage`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try addToken(setup, token, customer: "cus_1")
    func use(_ token: String?, quantity: Int? = nil) throws -> Setup.Answer {
      var headers = ["Idempotency-Key": "order-1001"]
      if let token { headers["Authorization"] = "Bearer \(token)" }
      return try setup.validate(
        "lic_1", extra: quantity.map { #","usage":{"quantity":\#($0)}"# } ?? "", headers: headers)
    }
    #expect(try use(nil)["code"] == "valid")
    #expect(try use(token, quantity: 500)["code"] == "valid")
    #expect(try use(token, quantity: 500)["code"] == "valid")
    for other in [501, nil] {
      let answer = try use(token, quantity: other)
      #expect(answer.status == 422 && answer["code"] == "idempotency_mismatch", "\(answer.body)")
    }
    let usage = try setup.events(UsageLog.topic, atLeast: 3)
    let names = usage.map { "\($0["source"] ?? "") \($0["id"] ?? "")" }
    #expect(
      names.sorted() == [
        "/validation/anonymous order-1001", "/validation/tok_cdef order-1001;api_calls;500",
        "/validation/tok_cdef order-1001;api_calls;500",
      ])
  }

  @Test func `Two keys, or two usages, never name one event`() {
    let keys = ["k", "k;a;1", "k%3Ba%3B1", "k%", "k%25", "k;"]
    let usages: [IdempotencyKeys.Usage] = [
      .init(meter: "api_calls", quantity: 1), .init(meter: "a", quantity: 1),
      .init(meter: "api_calls", quantity: 11),
    ]
    var made: Set<String> = []
    for key in keys { for usage in usages { made.insert(IdempotencyKeys.eventID(key, usage)) } }
    #expect(made.count == keys.count * usages.count)
  }

  @Test func `Meterctl refuses customers and scopes that do not exist`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1", customer: "cus_1")
    func meterctl(_ arguments: [String]) throws -> (Int32, String) {
      let key = Data(repeating: 7, count: 32).base64EncodedString()
      let process = try ChildProcess(
        ChildProcess.product("meterctl"), arguments,
        environment: setup.environment.merging(["METER_ENCRYPTION_KEY": key]) { $1 })
      let status = process.wait()
      try eventually("all is read") { process.outputEnded }
      return (status, process.output)
    }
    let url = ["--url", "https://example.com/hooks"]
    let (typo, says) = try meterctl(["endpoint", "add", "--customer", "cus_TYPO"] + url)
    #expect(typo == 3 && says.contains("no such customer"), "\(says)")
    #expect(try setup.database.integer("select count(*) from customer") == 1)
    #expect(try meterctl(["endpoint", "add", "--customer", "cus_1"] + url).0 == 0)
    let (scope, why) = try meterctl(["token", "create", "--name", "n", "--scope", "nope"])
    #expect(scope == 2 && why.contains("licenses:validate"), "\(why)")
    let create = ["token", "create", "--name", "n", "--scope", "licenses:validate"]
    #expect(try meterctl(create).0 == 0)
    // One import contains both spellings of an id, and it runs twice.
    let file = setup.folder + "/both.jsonl"
    let lines = ["M\u{FC}ller", "Mu\u{308}ller"].map {
      """
      {"license_id":"\($0)","customer_id":"\($0)","plan":"p","features":[],"domains":[],"limits":{},\
      "status":"active","issued_at":"2026-01-01T00:00:00Z","expires_at":"2099-01-01T00:00:00Z"}
      """
    }
    try lines.joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
    let (first, created) = try meterctl(["license", "import", file])
    #expect(first == 0 && created.contains("2 licenses created"), "\(created)")
    #expect(try meterctl(["license", "import", file]).1.contains("2 unchanged"))
  }
}
