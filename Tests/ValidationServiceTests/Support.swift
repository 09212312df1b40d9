import Foundation
import KafkaTransport
import Licensing
import Metering
import MeteringTestKit

/// PostgreSQL, a broker, and `validation-service` as a process.
final class Setup {
  let database: TestDatabase
  let log: UsageLog
  let keys: JSONWebKeySet
  let folder: String
  let port: Int
  let adminPort: Int
  private(set) var process: ChildProcess

  /// - Parameter descriptors: how many files the process may open; nil for as many as this one may.
  init(
    environment: [String: String] = [:], databaseURL: String? = nil, descriptors: Int? = nil
  ) throws {
    let database = TestDatabase(url: try SharedPostgres.makeDatabase())
    self.database = database
    log = try UsageLog(partitions: 4)
    folder = NSTemporaryDirectory() + "validation-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var keys = JSONWebKeySet()
    for purpose in JSONWebKey.Purpose.allCases {
      if let key = JSONWebKey.generate(.edDSA, for: purpose) { try keys.add(key) }
    }
    self.keys = keys
    port = try FreePort.next()
    adminPort = try FreePort.next()
    var all = [
      "METER_DATABASE_URL": databaseURL ?? database.url, "METER_KAFKA_BROKERS": log.brokers,
      "METER_SIGNING_KEY": String(decoding: keys.privateJSON, as: UTF8.self),
      "METER_SPOOL_DIR": folder + "/spool", "METER_HTTP_BIND": "127.0.0.1:\(port)",
      "METER_ADMIN_BIND": "127.0.0.1:\(adminPort)", "METER_INSTANCE": "eu-1",
    ]
    all.merge(environment) { $1 }
    self.environment = all
    let program = ChildProcess.product("validation-service")
    if let descriptors {
      process = try ChildProcess(
        "/bin/sh", ["-c", "ulimit -n \(descriptors) && exec \"$0\"", program], environment: all)
    } else {
      process = try ChildProcess(program, environment: all)
    }
    try waitUntilLive()
  }

  /// Adds a token of the customer, which is sent in `Authorization`.
  func addToken(_ token: String, scopes: String = "usage:write", customer: String = "cus_1") throws
  {
    try database.execute(
      """
      insert into customer (customer_id, name) values ('\(customer)', 'C') on conflict do nothing;
      insert into api_token (token_id, name, token_hash, scopes, customer_id)
      values ('tok_\(token)', 'n', sha256('\(token)'), '{\(scopes)}', '\(customer)')
      """)
  }

  let environment: [String: String]

  deinit {
    if process.isRunning { process.killNow() }
    try? FileManager.default.removeItem(atPath: folder)
  }

  func waitUntilLive() throws {
    try eventually("it listens; \(process.output)") {
      // This sends no request, because the service may speak TLS.
      guard let socket = TCP.connect(port: port) else { return false }
      close(socket)
      return HTTPGet.get(port: adminPort, "/health/ready")?.status == 200
    }
  }

  func restart() throws {
    process = try ChildProcess(ChildProcess.product("validation-service"), environment: environment)
    try waitUntilLive()
  }

  /// Adds a license that is valid for example.com, with the changes as SQL assignments.
  func addLicense(_ id: String, customer: String = "cus_1", changing: String? = nil) throws {
    try database.execute(
      """
      insert into customer (customer_id, name) values ('\(customer)', 'C') on conflict do nothing;
      insert into license (license_id, customer_id, plan, features, domains, seats, issued_at, expires_at)
      values ('\(id)', '\(customer)', 'professional', '{analytics,webhooks}', '{example.com,*.example.org}', 10,
        now() - interval '10 days', now() + interval '300 days');
      insert into license_limit (license_id, meter, quantity) values ('\(id)', 'api_calls', 50000)
      """)
    if let changing {
      try database.execute("update license set \(changing) where license_id = '\(id)'")
    }
  }

  struct Answer {
    var status: Int
    var headers: [String: String]
    var body: String
    var json: [String: Any]
    subscript(_ name: String) -> String { json[name].map { "\($0)" } ?? "(absent)" }
  }

  func request(
    _ method: String, _ path: String, body: String = "", headers: [String: String] = [:]
  ) throws -> Answer {
    guard let socket = TCP.connect(port: port, timeoutSeconds: 10) else {
      throw NeverHappened(description: "nobody listens: \(process.output)")
    }
    defer { close(socket) }
    var text = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for (name, value) in headers { text += "\(name): \(value)\r\n" }
    text += "Content-Length: \(body.utf8.count)\r\n\r\n" + body
    _ = TCP.write(socket, Array(text.utf8))
    var bytes: [UInt8] = []
    while let more = TCP.read(socket, atMost: 65_536) { bytes += more }
    let whole = String(decoding: bytes, as: UTF8.self)
    guard let end = whole.range(of: "\r\n\r\n") else {
      throw NeverHappened(description: "no answer: \(whole)")
    }
    let lines = whole[..<end.lowerBound].components(separatedBy: "\r\n")
    var found: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      found[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
    }
    let content = String(whole[end.upperBound...])
    let json = try? JSONSerialization.jsonObject(with: Data(content.utf8)) as? [String: Any]
    return Answer(
      status: Int(lines[0].split(separator: " ")[1]) ?? 0, headers: found, body: content,
      json: json ?? [:])
  }

  func validate(
    _ key: String, _ domain: String = "example.com", extra: String = "",
    headers: [String: String] = [:]
  ) throws -> Answer {
    try request(
      "POST", "/v1/licenses/validate",
      body: #"{"licenseKey":"\#(key)","domain":"\#(domain)"\#(extra)}"#,
      headers: ["Content-Type": "application/json"].merging(headers) { $1 })
  }

  /// A number from the service's metrics page.
  func metric(_ sample: String) -> Int? {
    HTTPGet.get(port: adminPort, "/metrics")?.body.split(separator: "\n")
      .first { $0.hasPrefix(sample + " ") }
      .flatMap { Int($0.dropFirst(sample.utf8.count + 1)) }
  }

  /// A value of the service in bytes, from a line of `/proc/PID/status` such as `RssAnon`.
  func memory(_ field: String) throws -> Int {
    let status = try String(contentsOfFile: "/proc/\(process.pid)/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix(field + ":") }
    guard let kibibytes = line?.split(whereSeparator: { !$0.isNumber }).first.flatMap({ Int($0) })
    else { throw NeverHappened(description: "no \(field) in \(status)") }
    return kibibytes << 10
  }

  /// Waits until a topic has that many events. Returns all of them, decoded.
  func events(_ topic: String, atLeast count: Int) throws -> [[String: Any]] {
    var found: [[String: Any]] = []
    try eventually("\(count) events are in \(topic); \(process.output)") {
      found = []
      try log.readAll(topic) { record in
        guard let value = record.value,
          let event = try JSONSerialization.jsonObject(with: Data(value)) as? [String: Any],
          event["type"] as? String != "license.producer.reported"
        else { return }
        found.append(event)
      }
      return found.count >= count
    }
    return found
  }
}
