import ArgumentParser
import Foundation
import Hummingbird
import Licensing
import Metering
import MeteringTestKit
import PostgresStore

/// Measures the validation service with wrk, and a bare Hummingbird handler that answers with as
/// many static bytes, in one run.
struct Validate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Compares the requests/s of the validation service with those of a bare Hummingbird handler.",
    subcommands: [Serve.self, Compare.self], defaultSubcommand: Compare.self)

  struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Serves the bare handler.", shouldDisplay: false)

    @Option var port: Int
    @Option var bytes: Int

    func run() async throws {
      let body = ByteBuffer(repeating: UInt8(ascii: "x"), count: bytes)
      let application = Application(
        responder: CallbackResponder { (request: Request, _: BasicRequestContext) in
          for try await _ in request.body {}
          return Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: body))
        },
        configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)))
      try await application.run()
    }
  }

  struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Measures both and compares them.")

    @Option(help: "How many seconds each measurement takes.") var seconds = 6
    @Option(help: "The number of wrk's connections.") var connections = 64
    @Option(help: "How often each side is measured, in turn.") var rounds = 3

    private struct Load {
      var requestsPerSecond: Double
      /// Milliseconds.
      var p99: Double
      /// The server's CPU time in microseconds for each request.
      var cpu: Double
    }

    private struct Target {
      var port: Int
      var pid: Int32
    }

    func run() throws {
      let stage = try Stage()
      let postgres = try PrivatePostgres()
      let database = TestDatabase(url: try postgres.makeDatabase())
      try database.execute(
        """
        insert into customer values ('c', 'C');
        insert into license (license_id, customer_id, plan, features, domains, seats, issued_at, expires_at)
        values ('lic_abc123', 'c', 'professional', '{analytics,webhooks,custom-domains}', '{example.com}', 10, now(),
          now() + interval '300 days');
        insert into license_limit values ('lic_abc123', 'api_calls', 50000)
        """)
      var keys = JSONWebKeySet()
      for purpose in JSONWebKey.Purpose.allCases {
        if let key = JSONWebKey.generate(.edDSA, for: purpose) { try keys.add(key) }
      }
      let folder = NSTemporaryDirectory() + "validate-\(UUID().uuidString)"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let port = try FreePort.next()
      let adminPort = try FreePort.next()
      let process = try ChildProcess(
        ChildProcess.product("validation-service"),
        environment: [
          "METER_DATABASE_URL": database.url, "METER_KAFKA_BROKERS": stage.servers,
          "METER_SIGNING_KEY": String(decoding: keys.privateJSON, as: UTF8.self),
          "METER_SPOOL_DIR": folder + "/spool", "METER_HTTP_BIND": "127.0.0.1:\(port)",
          "METER_ADMIN_BIND": "127.0.0.1:\(adminPort)", "METER_ANONYMOUS_RATE_LIMIT": "1000000",
          "METER_ANONYMOUS_RATE_LIMIT_BURST": "1000000", "METER_ADDRESS_RATE_LIMIT": "1000000",
          "METER_ADDRESS_RATE_LIMIT_BURST": "1000000",
        ])
      defer { process.killNow() }
      try eventually("it listens: \(process.output)") { process.output.contains("listening") }
      let service = Target(port: port, pid: process.pid)
      let byID = script("lic_abc123")
      let byToken = script(try token(keys))

      let bytes = try answerBytes(port)
      let barePort = try FreePort.next()
      let bareProcess = try ChildProcess(
        ChildProcess.product("Benchmarks"),
        ["validate", "serve", "--port", "\(barePort)", "--bytes", "\(bytes)"])
      defer { bareProcess.killNow() }
      let bare = Target(port: barePort, pid: bareProcess.pid)
      usleep(500_000)
      print("an answer has \(bytes) bytes, the bare handler's too")
      _ = try wrk(bare, byID, 2)
      _ = try wrk(service, byID, 2)

      func measure(_ name: String, _ script: String, before: () throws -> Void = {}) throws {
        var pairs: [(bare: Load, ours: Load)] = []
        for _ in 0..<rounds {
          // Otherwise it would pay for sending the earlier events.
          try drain(adminPort)
          let base = try wrk(bare, byID, seconds)
          try before()
          pairs.append((base, try wrk(service, script, seconds)))
          stage.broker.signal(SIGCONT)
        }
        show(name, pairs)
      }
      try measure("by license id", byID)
      try measure("by JWT", byToken)
      try measure("by id, Kafka stopped that moment", byID) { stage.broker.signal(SIGSTOP) }
      try drain(adminPort)
      try postgres.stop(mode: "immediate")
      try measure("by id, PostgreSQL stopped", byID)
      stage.end()
    }

    private func token(_ keys: JSONWebKeySet) throws -> String {
      let now = Int64(Date().timeIntervalSince1970) * 1_000
      guard
        let token = LicenseSigner(keys: keys)?.token(
          LicenseClaims(
            licenseID: "lic_abc123", domains: ["example.com"], plan: "professional",
            issuedAt: now - 1_000, expiresAt: now + 86_400_000))
      else { throw ValidationError("no token") }
      return token
    }

    /// Prints the medians of the rounds. The ratios are those of pairs.
    private func show(_ name: String, _ pairs: [(bare: Load, ours: Load)]) {
      func median(_ value: ((bare: Load, ours: Load)) -> Double) -> Double {
        pairs.map(value).sorted()[pairs.count / 2]
      }
      func text(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
      print(
        """
        \(name): \(Int(median { $0.ours.requestsPerSecond })) requests/s, bare \(Int(median { $0.bare.requestsPerSecond })), \
        ratio \(text(median { $0.ours.requestsPerSecond / $0.bare.requestsPerSecond })); \
        p99 \(text(median { $0.ours.p99 })) ms, bare \(text(median { $0.bare.p99 })), \
        \(text(median { $0.ours.p99 / $0.bare.p99 }))×; \
        CPU \(text(median { $0.ours.cpu })) µs a request, bare \(text(median { $0.bare.cpu }))
        """)
    }

    /// Waits until the spool is empty.
    private func drain(_ adminPort: Int) throws {
      try eventually("the spool is empty", within: 120) {
        let lines = HTTPGet.get(port: adminPort, "/metrics")?.body.split(separator: "\n") ?? []
        let pending = lines.filter { $0.hasPrefix("meter_spool_pending{") }
        return pending.count == 2 && pending.allSatisfy { $0.hasSuffix(" 0") }
      }
    }

    private static let question =
      #"{"licenseKey":"lic_abc123","domain":"example.com","nonce":"nonce-0123456789"}"#

    private func answerBytes(_ port: Int) throws -> Int {
      guard let socket = TCP.connect(port: port, timeoutSeconds: 10) else {
        throw ValidationError("nobody listens")
      }
      defer { close(socket) }
      let head = "POST /v1/licenses/validate HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
      _ = TCP.write(
        socket,
        Array("\(head)content-length: \(Self.question.utf8.count)\r\n\r\n\(Self.question)".utf8))
      var bytes: [UInt8] = []
      while let more = TCP.read(socket, atMost: 65_536) { bytes += more }
      let parts = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n\r\n")
      guard parts.count == 2, parts[1].contains("\"valid\":true") else {
        throw ValidationError("it says:\n\(parts)")
      }
      return parts[1].utf8.count
    }

    private func script(_ key: String) -> String {
      """
      wrk.method = "POST"
      wrk.headers["Content-Type"] = "application/json"
      wrk.body = '\(Self.question.replacing("lic_abc123", with: key))'
      """
    }

    private func wrk(_ target: Target, _ script: String, _ seconds: Int) throws -> Load {
      let cpu = ProcessFigures.cpuSeconds(of: target.pid)
      let figures = try Wrk.run(
        url: "http://127.0.0.1:\(target.port)/v1/licenses/validate", script: script,
        connections: connections, seconds: seconds)
      let used = ProcessFigures.cpuSeconds(of: target.pid) - cpu
      if figures.failed > 0 { note("\(figures.failed) requests failed") }
      return Load(
        requestsPerSecond: figures.requestsPerSecond, p99: figures.p99,
        cpu: used / Double(figures.requests) * 1e6)
    }
  }
}
