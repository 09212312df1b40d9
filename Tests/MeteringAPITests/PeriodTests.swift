import Foundation
import Glibc
import Licensing
import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// Periods, adjustments and statements by the API. All usage is in early 2025, so that nothing here
/// depends on the current day.
@Suite(.serialized)
struct PeriodTests {
  private func setup(environment: [String: String] = [:]) throws -> APISetup {
    let setup = try APISetup(environment: environment)
    try setup.addLicense("lic_1", limit: 100)
    try setup.addLicense("lic_2", customer: "cus_2", anchorDay: 15, limit: nil)
    try use(setup, "lic_1", "2025-01-10 10:00Z", 120)
    try use(setup, "lic_1", "2025-02-10 10:00Z", 30)
    try use(setup, "lic_2", "2025-01-20 10:00Z", 7)
    try use(setup, "lic_nobody", "2025-01-20 10:00Z", 5)
    return setup
  }

  private func use(
    _ setup: APISetup, _ license: String, _ time: String, _ quantity: Int
  ) throws {
    try setup.database.execute(
      """
      insert into usage_pending values (1, 0, '\(license)', 'api_calls', '\(time)', 7, 9,
        \(quantity), 1, '[5,\(quantity),1]', '["domain","app.example.com",\(quantity),1]');
      select usage_merge('{0}')
      """)
  }

  private func close(
    _ setup: APISetup, _ body: String, headers: [String: String] = [:]
  ) throws -> APISetup.Answer {
    try setup.request("POST", "/v1/periods/close", body: body, headers: headers)
  }

  @Test func `A month is previewed, closed once, and what is late goes on the next invoice`() throws
  {
    let setup = try setup()
    let preview = try setup.get("/v1/periods/close-preview?ending_before=2025-02-01")
    #expect(preview.status == 200 && preview["ready"] == "1" && preview["periods"] == "2")
    let meters = preview.json["by_meter"] as? [[String: Any]]
    #expect(meters?.first?["quantity"] as? Int == 125 && meters?.first?["overage"] as? Int == 20)
    let warnings = preview.json["warnings"] as? [[String: String]]
    #expect(warnings?.map { $0["code"] } == ["unregistered_licenses"])

    let closed = try close(setup, #"{"ending_before":"2025-02-01T00:00:00Z"}"#)
    #expect(closed.status == 200 && closed["closed"] == "2", "\(closed.body)")
    let again = try close(setup, #"{"ending_before":"2025-02-01"}"#)
    #expect(again["closed"] == "0" && again["already_closed"] == "2")
    try use(setup, "lic_1", "2025-01-11 10:00Z", 9)

    let rows = try setup.get("/v1/periods?license_id=lic_1").data
    #expect(rows.map { $0["status"] as? String } == ["closed", "due"])
    #expect(rows[0]["quantity"] as? Int == 120 && rows[0]["late_quantity"] as? Int == 9)
    #expect(rows[0]["included"] as? Int == 100 && rows[0]["overage"] as? Int == 20)
    #expect(rows[0]["customer_id"] as? String == "cus_1")
    let late = try setup.get("/v1/adjustments?kind=late").data
    #expect(late.count == 1 && late[0]["quantity"] as? Int == 9)
    #expect(late[0]["applies_to_period_start"] as? String == "2025-01-01T00:00:00Z")
    #expect(late[0]["invoiced_period_start"] as? String == "2025-02-01T00:00:00Z")
    let statement = try setup.get("/v1/customers/cus_1/statements/2025-02")
    let lines = statement.json["lines"] as? [[String: Any]]
    #expect(lines?.first?["billable_quantity"] as? Int == 39, "\(statement.body)")
    #expect(
      try setup.database.rows(
        """
        select after ->> 'ending_before', after ->> 'force' from audit_log
        where action = 'periods.close'
        """) == [["2025-02-01", "false"], ["2025-02-01", "false"]])
    #expect(
      try setup.database.rows(
        """
        select after ->> 'closed', after ->> 'already_closed' from audit_log
        where action = 'periods.closed' order by audit_id
        """) == [["2", "0"], ["0", "2"]])
  }

  @Test func `A close that is cut off before it closed anything is in the audit log`() throws {
    let setup = try setup()
    // While this is held, the close has begun and cannot close anything.
    let holder = try PostgresConnection(url: setup.database.url, application: "test")
    try holder.execute("select pg_advisory_lock(close_lock_key())")
    let body = #"{"ending_before":"2025-02-01","force":true,"reason":"the auditor asked"}"#
    let socket = try #require(TCP.connect(port: setup.port))
    defer { Glibc.close(socket) }
    _ = TCP.write(
      socket,
      Array(
        ("POST /v1/periods/close HTTP/1.1\r\nHost: localhost\r\n"
          + "Authorization: Bearer \(APISetup.adminToken)\r\nContent-Type: application/json\r\n"
          + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)").utf8))
    let audited = """
      select actor_id, after ->> 'reason', after ->> 'force' from audit_log
      where action like 'periods.%'
      """
    try eventually("it has begun") { try setup.database.rows(audited).count == 1 }
    setup.process.killNow()
    #expect(
      try setup.database.rows(audited) == [["tok_mtr_admin", "the auditor asked", "true"]])
    try holder.execute("select pg_advisory_unlock(close_lock_key())")
    try setup.restart()
    let closed = try close(setup, body)
    let (first, second) = (closed["closed"], closed["already_closed"])
    #expect((Int(first) ?? 0) + (Int(second) ?? 0) == 2, "\(closed.body)")
  }

  @Test func `Periods are listed in pages, by status, customer and as CSV`() throws {
    let setup = try setup()
    _ = try close(setup, #"{"ending_before":"2025-02-01","customer_id":"cus_1"}"#)
    #expect(try setup.get("/v1/periods?status=closed").data.count == 1)
    var (path, ids): (String?, [String]) = ("/v1/periods?limit=1", [])
    while let next = path {
      let page = try setup.get(next)
      #expect(page.status == 200 && page.data.count <= 1, "\(page.body)")
      ids += page.data.compactMap { $0["period_id"] as? String }
      path = (page.json["next"] as? String).map { "/v1/periods?limit=1&cursor=\($0)" }
    }
    #expect(
      ids == [
        "lic_1:api_calls:2025-01-01", "lic_1:api_calls:2025-02-01", "lic_2:api_calls:2025-01-15",
        "lic_nobody:api_calls:2025-01-01",
      ])
    let csv = try setup.get("/v1/periods?format=csv&customer_id=cus_2")
    #expect(csv.body.contains("lic_2:api_calls:2025-01-15,lic_2,cus_2,api_calls"))
    try setup.addToken("mtr_c", scopes: "billing:read", customer: "cus_2")
    #expect(try setup.get("/v1/periods", token: "mtr_c").data.count == 1)
    #expect(try setup.get("/v1/periods?customer_id=cus_1", token: "mtr_c").status == 404)
    #expect(
      try setup.get("/v1/periods/close-preview?ending_before=2025-02-01", token: "mtr_c").status
        == 404)
    #expect(try setup.get("/v1/periods?status=shut").status == 400)
    #expect(try setup.get("/v1/periods?ending_before=yesterday").status == 400)
  }

  @Test func `A close is refused with its obstacles, unless it is forced with a reason`()
    throws
  {
    let setup = try setup(environment: ["METER_CLOSE_GRACE": "90d"])
    try setup.database.execute(
      """
      insert into producer_report values ('usage-aggregator', 'license.usage.v1', 'eu-1', 10, 0, 0,
        false, now(), null, 1, now());
      insert into partition_halt values ('usage-aggregator', 'license.usage.v1', 3, 'truncated', 'x');
      insert into import_batch (batch, file_hash, file_name, format, oldest_time, producer)
      values ('b', 'h', 'access.log', 'combined', now(), 'p')
      """)
    let refused = try close(setup, #"{"ending_before":"2025-02-01"}"#)
    #expect(refused.status == 409 && refused["code"] == "not_ready")
    let codes = (refused.json["blockers"] as? [[String: String]])?.compactMap { $0["code"] }
    #expect(codes == ["missing", "halted_partition", "pending_import"], "\(refused.body)")
    let bare = try close(setup, #"{"ending_before":"2025-02-01","force":true}"#)
    #expect(bare.status == 400 && bare.body.contains("reason"))
    let forced = try close(
      setup, #"{"ending_before":"2025-02-01","force":true,"reason":"the auditor asked"}"#)
    #expect(forced.status == 200 && forced["closed"] == "2")
    #expect(
      try setup.database.rows(
        "select forced, reason, jsonb_array_length(blockers), finished_at is not null from usage_close"
      ) == [["t", "the auditor asked", "3", "t"]])
  }

  @Test func `The period of today cannot be closed, whatever is forced`() throws {
    let setup = try setup()
    try use(setup, "lic_1", "now", 3)
    let id = try #require(
      try setup.get("/v1/periods?license_id=lic_1&status=open").data.first?["period_id"] as? String)
    let one = try setup.request(
      "POST", "/v1/periods/\(id)/close", body: #"{"force":true,"reason":"now"}"#)
    #expect(one.status == 409 && one["code"] == "not_ended", "\(one.body)")
    _ = try close(setup, #"{"ending_before":"2999-01-01","force":true,"reason":"now"}"#)
    #expect(try setup.get("/v1/periods?license_id=lic_1&status=open").data.count == 1)
  }

  @Test func `One period can be closed by itself`() throws {
    let setup = try setup()
    let path = "/v1/periods/lic_1:api_calls:2025-01-01/close"
    #expect(try setup.request("POST", path)["closed"] == "1")
    #expect(try setup.request("POST", path)["already_closed"] == "1")
    #expect(
      try setup.request("POST", "/v1/periods/lic_1:api_calls:2025-05-01/close").status == 404)
    #expect(try setup.request("POST", "/v1/periods/nothing/close").status == 404)
    #expect(try setup.get("/v1/periods?status=closed").data.count == 1)
    // Only the close that closed it left a record.
    #expect(try setup.database.integer("select count(*) from usage_close") == 1)
    #expect(
      try setup.database.rows(
        """
        select resource_id, customer_id, after ->> 'closed' from audit_log
        where action = 'period.close'
        """) == [["lic_1:api_calls:2025-01-01", "cus_1", "1"]])
  }

  @Test func `An adjustment is recorded once, reversed once, and never changed`() throws {
    let setup = try setup()
    _ = try close(setup, #"{"ending_before":"2025-02-01"}"#)
    let body =
      #"{"license_id":"lic_1","meter":"api_calls","quantity":-20,"reason":"agreed","#
      + #""applies_to_period_start":"2025-01-01T00:00:00Z"}"#
    func adjust(_ body: String, _ key: String? = nil) throws -> APISetup.Answer {
      try setup.request(
        "POST", "/v1/adjustments", body: body, headers: key.map { ["Idempotency-Key": $0] } ?? [:])
    }
    let made = try adjust(body, "k1")
    #expect(made.status == 201 && made["invoiced_period_start"] == "2025-02-01T00:00:00Z")
    #expect(try adjust(body, "k1").body == made.body)
    let other = try adjust(body.replacingOccurrences(of: "-20", with: "-21"), "k1")
    #expect(other.status == 422 && other["code"] == "idempotency_mismatch")
    let inside = try adjust(body.replacingOccurrences(of: "01-01T", with: "01-02T"))
    #expect(inside.status == 400 && inside.body.contains("2025-01-01"))
    #expect(try adjust(body.replacingOccurrences(of: "lic_1", with: "lic_x")).status == 404)
    let path = "/v1/adjustments/\(made["adjustment_id"])/reverse"
    let reversed = try setup.request("POST", path, body: #"{"reason":"a mistake"}"#)
    #expect(reversed.status == 201 && reversed["quantity"] == "20", "\(reversed.body)")
    #expect(reversed["reverses"] == made["adjustment_id"])
    #expect(try setup.request("POST", path)["code"] == "already_reversed")
    let all = try setup.get("/v1/adjustments?license_id=lic_1").data
    #expect(all.compactMap { $0["quantity"] as? Int }.sorted() == [-20, 20])
    #expect(throws: (any Error).self) {
      try setup.database.execute("update usage_adjustment_entry set quantity = 0")
    }
    #expect(throws: (any Error).self) {
      try setup.database.execute("delete from usage_adjustment_entry")
    }
  }

  @Test
  func `A closed statement is signed, stays as it is, and PyJWT verifies it by the JWK set alone`()
    throws
  {
    var keys = JSONWebKeySet()
    try keys.add(try #require(JSONWebKey.generate(.edDSA, for: .verdict)))
    let setup = try setup(environment: [
      "METER_SIGNING_KEY": String(decoding: keys.privateJSON, as: UTF8.self)
    ])
    let path = "/v1/customers/cus_1/statements/2025-01"
    let open = try setup.get(path)
    #expect(open["status"] == "open" && open["signature"] == "(absent)")
    _ = try close(setup, #"{"ending_before":"2025-02-01"}"#)
    let closed = try setup.get(path)
    #expect(closed["status"] == "closed", "\(closed.body)")
    try use(setup, "lic_1", "2025-01-12 10:00Z", 9)
    let later = try setup.get(path)
    #expect(Self.unsigned(later) == Self.unsigned(closed))
    #expect(later.headers["etag"] == closed.headers["etag"])
    let lines = closed.json["lines"] as? [[String: Any]]
    let domains = lines?.first?["by_domain"] as? [[String: Any]]
    #expect(domains?.first?["quantity"] as? Int == 120)
    let months = try setup.get("/v1/customers/cus_1/statements").data
    #expect(months.map { $0["month"] as? String } == ["2025-02", "2025-01"])
    #expect(months.map { $0["status"] as? String } == ["open", "closed"])
    let csv = try setup.get(path + "?format=csv")
    #expect(csv.body.contains("lic_1,api_calls,2025-01-01T00:00:00Z"))
    #expect(try setup.get("/v1/customers/cus_9/statements/2025-01").status == 404)
    #expect(try setup.get("/v1/customers/cus_1/statements/2025-13").status == 404)
    try setup.addToken("mtr_s", scopes: "billing:read", customer: "cus_2")
    #expect(try setup.get(path, token: "mtr_s").status == 404)
    guard Python.hasPyJWT else { return }
    let jwks = try setup.get("/.well-known/jwks.json", token: nil).body
    #expect(
      try Python.run(
        """
        import json, jwt, sys
        token, jwks, answer = sys.argv[1:]
        header = jwt.get_unverified_header(token)
        key = jwt.PyJWKSet.from_json(jwks)[header["kid"]]
        payload = jwt.decode(token, key.key, algorithms=[header["alg"]])
        answer = json.loads(answer)
        answer.pop("signature")
        assert header["typ"] == "statement+jwt" and payload == answer
        """, [closed["signature"], jwks, closed.body]) == 0)
  }

  private static func unsigned(_ answer: APISetup.Answer) -> String {
    answer.body.components(separatedBy: #","signature":"#)[0]
  }
}

/// `METER_TEST_PYTHON` or python3. Tests of packages that it lacks are skipped.
enum Python {
  static let hasPyJWT = (try? run("import jwt, cryptography", [])) == 0

  static func run(_ script: String, _ arguments: [String]) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let python = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? "python3"
    process.arguments = [python, "-c", script] + arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
  }
}
