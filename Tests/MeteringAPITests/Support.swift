import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// PostgreSQL and `metering-api` as a process.
final class APISetup {
  let database: TestDatabase
  let port: Int
  let adminPort: Int
  let environment: [String: String]
  private(set) var process: ChildProcess
  /// The vendor's own token, with every scope.
  static let adminToken = "mtr_admin"

  /// - Parameters:
  ///   - environment: settings in addition to the necessary ones.
  ///   - databaseURL: a database with the schema of this build; nil for a new one on the shared
  ///     server.
  ///   - descriptors: how many files the process may open; nil for as many as this one may.
  init(
    environment: [String: String] = [:], databaseURL: String? = nil, descriptors: Int? = nil
  ) throws {
    database = TestDatabase(url: try databaseURL ?? SharedPostgres.makeDatabase())
    port = try FreePort.next()
    adminPort = try FreePort.next()
    var all = [
      "METER_DATABASE_URL": database.url, "METER_HTTP_BIND": "127.0.0.1:\(port)",
      "METER_ADMIN_BIND": "127.0.0.1:\(adminPort)",
    ]
    // The ports are always new ones.
    all.merge(environment.filter { !$0.key.hasSuffix("_BIND") }) { $1 }
    self.environment = all
    let program = ChildProcess.product("metering-api")
    if let descriptors {
      process = try ChildProcess(
        "/bin/sh", ["-c", "ulimit -n \(descriptors) && exec \"$0\"", program], environment: all)
    } else {
      process = try ChildProcess(program, environment: all)
    }
    if try database.rows("select 1 from api_token where token_id = 'tok_mtr_admin'").isEmpty {
      try addToken(Self.adminToken, scopes: "admin")
    }
    try waitUntilReady()
  }

  deinit { if process.isRunning { process.killNow() } }

  func waitUntilReady() throws {
    try eventually("it listens; \(process.output)") {
      guard let socket = TCP.connect(port: port) else { return false }
      close(socket)
      return HTTPGet.get(port: adminPort, "/health/ready")?.status == 200
    }
  }

  func restart() throws {
    if process.isRunning { process.killNow() }
    process = try ChildProcess(ChildProcess.product("metering-api"), environment: environment)
    try waitUntilReady()
  }

  /// - Parameters:
  ///   - customer: the customer that the token is bound to; nil for the vendor's own.
  ///   - expires: an SQL expression.
  func addToken(
    _ token: String, scopes: String, customer: String? = nil, expires: String = "null"
  ) throws {
    if let customer { try addCustomer(customer) }
    let owner = customer.map { "'\($0)'" } ?? "null"
    try database.execute(
      """
      insert into api_token (token_id, name, token_hash, scopes, customer_id, expires_at)
      values ('tok_\(token)', 'test', sha256('\(token)'), '{\(scopes)}', \(owner), \(expires))
      """)
  }

  func addCustomer(_ id: String) throws {
    try database.execute(
      "insert into customer (customer_id, name) values ('\(id)', 'C') on conflict do nothing")
  }

  /// Adds a license of the customer, with its limit of api_calls.
  func addLicense(
    _ id: String, customer: String = "cus_1", anchorDay: Int = 1, limit: Int? = 50_000
  ) throws {
    try addCustomer(customer)
    try database.execute(
      """
      insert into license (license_id, customer_id, plan, features, domains, seats, issued_at,
        expires_at, billing_anchor_day)
      values ('\(id)', '\(customer)', 'professional', '{analytics}', '{example.com}', 10,
        now() - interval '400 days', now() + interval '300 days', \(anchorDay));
      insert into license_billing_anchor (license_id, effective_from, anchor_day)
      values ('\(id)', '-infinity', \(anchorDay))
      """)
    if let limit {
      try database.execute(
        "insert into license_limit (license_id, meter, quantity) values ('\(id)', 'api_calls', \(limit))"
      )
    }
  }

  /// Adds a pending row of usage with one event at a minute.
  func addUsage(
    _ license: String, _ time: String, _ quantity: Int, meter: String = "api_calls",
    domain: String = "example.com"
  ) throws {
    _ = try database.rows(
      """
      insert into usage_pending
      select 1, 0, $1, $2, date_trunc('hour', t), 0, 0, $3::bigint, 1,
        '[' || extract(minute from t)::int || ',' || $3 || ',1]', '["domain","' || $5 || '",' || $3 || ',1]'
      from (select $4::timestamptz as t) x
      """,
      [.text(license), .text(meter), .int(quantity), .text(time), .text(domain)])
  }

  struct Answer {
    var status: Int
    var headers: [String: String]
    var body: String
    var bytes: [UInt8]
    var json: [String: Any]
    /// A member as text.
    subscript(_ name: String) -> String { json[name].map { "\($0)" } ?? "(absent)" }
    var data: [[String: Any]] { json["data"] as? [[String: Any]] ?? [] }
  }

  /// - Parameter token: with nil, none is sent.
  func request(
    _ method: String, _ path: String, token: String? = APISetup.adminToken, body: String = "",
    headers: [String: String] = [:]
  ) throws -> Answer {
    var text = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if let token { text += "Authorization: Bearer \(token)\r\n" }
    if !body.isEmpty, headers["Content-Type"] == nil {
      text += "Content-Type: application/json\r\n"
    }
    for (name, value) in headers { text += "\(name): \(value)\r\n" }
    if method != "GET" || !body.isEmpty { text += "Content-Length: \(body.utf8.count)\r\n" }
    let answer = try exchange(Array((text + "\r\n" + body).utf8))
    guard let answer else { throw NeverHappened(description: "no answer to \(path)") }
    return answer
  }

  func get(
    _ path: String, token: String? = APISetup.adminToken, headers: [String: String] = [:]
  ) throws -> Answer {
    try request("GET", path, token: token, headers: headers)
  }

  /// Sends the bytes unchanged, and reads to the end of the connection. Returns nil if nothing
  /// came.
  func exchange(_ bytes: [UInt8]) throws -> Answer? {
    guard let socket = TCP.connect(port: port, timeoutSeconds: 30) else {
      throw NeverHappened(description: "nobody listens: \(process.output)")
    }
    defer { close(socket) }
    _ = TCP.write(socket, bytes)
    var read: [UInt8] = []
    while let more = TCP.read(socket, atMost: 65_536) { read += more }
    return Self.parse(read)
  }

  static func parse(_ bytes: [UInt8]) -> Answer? {
    guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
    let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self)
      .components(separatedBy: "\r\n")
    var found: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      found[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
    }
    var content = Array(bytes[end.upperBound...])
    if found["transfer-encoding"] == "chunked" { content = unchunked(content) }
    let json = try? JSONSerialization.jsonObject(with: Data(content)) as? [String: Any]
    return Answer(
      status: lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0,
      headers: found, body: String(decoding: content, as: UTF8.self), bytes: content,
      json: json ?? [:])
  }

  private static func unchunked(_ bytes: [UInt8]) -> [UInt8] {
    var rest = bytes[...]
    var result: [UInt8] = []
    while let line = rest.firstRange(of: Array("\r\n".utf8)),
      let length = Int(String(decoding: rest[..<line.lowerBound], as: UTF8.self), radix: 16),
      length > 0, rest.distance(from: line.upperBound, to: rest.endIndex) >= length
    {
      result += rest[line.upperBound..<line.upperBound + length]
      rest = rest[(line.upperBound + length)...].dropFirst(2)
    }
    return result
  }
}
