import ArgumentParser
import Foundation
import Hummingbird
import Licensing
import MeteringTestKit
import PostgresStore

/// The validation service under wrk, beside a bare Hummingbird handler that answers as many static bytes, in one run.
struct Validate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Requests a second of the validation service beside a bare Hummingbird handler.",
    subcommands: [Serve.self, Compare.self], defaultSubcommand: Compare.self)

  struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "The bare handler.", shouldDisplay: false)

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
    static let configuration = CommandConfiguration(abstract: "Measure and compare.")

    @Option(help: "Seconds of each measurement.") var seconds = 8
    @Option(help: "Connections of wrk.") var connections = 64

    private struct Load {
      var requestsPerSecond: Double
      /// Milliseconds.
      var p99: Double
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
      let service = try ChildProcess(
        ChildProcess.product("validation-service"),
        environment: [
          "METER_DATABASE_URL": database.url, "METER_KAFKA_BROKERS": stage.servers,
          "METER_SIGNING_KEY": String(decoding: keys.privateJSON, as: UTF8.self),
          "METER_SPOOL_DIR": folder + "/spool", "METER_HTTP_BIND": "127.0.0.1:\(port)",
          "METER_ADMIN_BIND": "127.0.0.1:0", "METER_ANONYMOUS_RATE_LIMIT": "1000000",
          "METER_ANONYMOUS_RATE_LIMIT_BURST": "1000000",
        ])
      defer { service.killNow() }
      try eventually("it listens: \(service.output)") { service.output.contains("listening") }
      let barePort = try FreePort.next()
      let bare = try ChildProcess(
        ChildProcess.product("Benchmarks"),
        ["validate", "serve", "--port", "\(barePort)", "--bytes", "950"])
      defer { bare.killNow() }
      usleep(500_000)

      let now = Int64(Date().timeIntervalSince1970) * 1_000
      guard
        let token = LicenseSigner(keys: keys)?.token(
          LicenseClaims(
            licenseID: "lic_abc123", domains: ["example.com"], plan: "professional",
            issuedAt: now - 1_000, expiresAt: now + 86_400_000))
      else { throw ValidationError("no token") }
      let byID = try script(folder, "id", "lic_abc123")
      let byToken = try script(folder, "token", token)
      func show(_ name: String, _ load: Load, _ base: Load) {
        print(
          "\(name): \(Int(load.requestsPerSecond)) requests/s, p99 \(load.p99) ms; ratio \(Self.round(load.requestsPerSecond / base.requestsPerSecond)), p99 \(Self.round(load.p99 / base.p99))×"
        )
      }
      _ = try wrk(barePort, byID, 2)
      _ = try wrk(port, byID, 2)
      let first = try wrk(barePort, byID, seconds)
      let ids = try wrk(port, byID, seconds)
      let tokens = try wrk(port, byToken, seconds)
      let second = try wrk(barePort, byID, seconds)
      let base = Load(
        requestsPerSecond: (first.requestsPerSecond + second.requestsPerSecond) / 2,
        p99: (first.p99 + second.p99) / 2)
      print("bare Hummingbird: \(Int(base.requestsPerSecond)) requests/s, p99 \(base.p99) ms")
      show("by license id", ids, base)
      show("by JWT", tokens, base)
      stage.broker.signal(SIGSTOP)
      show("by id, Kafka blackholed", try wrk(port, byID, seconds), base)
      stage.broker.signal(SIGCONT)
      try postgres.stop(mode: "immediate")
      show("by id, PostgreSQL stopped", try wrk(port, byID, seconds), base)
      stage.end()
    }

    private static func round(_ value: Double) -> Double { (value * 100).rounded() / 100 }

    private func script(_ folder: String, _ name: String, _ key: String) throws -> String {
      let path = "\(folder)/\(name).lua"
      try """
      wrk.method = "POST"
      wrk.headers["Content-Type"] = "application/json"
      wrk.body = '{"licenseKey":"\(key)","domain":"example.com","nonce":"nonce-0123456789"}'
      """.write(toFile: path, atomically: true, encoding: .utf8)
      return path
    }

    private func wrk(_ port: Int, _ script: String, _ seconds: Int) throws -> Load {
      let process = try ChildProcess(
        "/usr/bin/wrk",
        [
          "-t1", "-c\(connections)", "-d\(seconds)s", "--latency", "-s", script,
          "http://127.0.0.1:\(port)/v1/licenses/validate",
        ])
      process.wait()
      let lines = process.output.split(separator: "\n").map { $0.split(separator: " ") }
      if process.output.contains("Non-2xx") { note(process.output) }
      guard
        let rate = lines.first(where: { $0.first == "Requests/sec:" }).flatMap({ Double($0[1]) }),
        let p99 = lines.first(where: { $0.first == "99%" }).flatMap({ Self.milliseconds($0[1]) })
      else { throw ValidationError("wrk (Debian's) said:\n\(process.output)") }
      return Load(requestsPerSecond: rate, p99: p99)
    }

    private static func milliseconds(_ text: Substring) -> Double? {
      if text.hasSuffix("us") { return Double(text.dropLast(2)).map { $0 / 1_000 } }
      if text.hasSuffix("ms") { return Double(text.dropLast(2)) }
      return Double(text.dropLast()).map { $0 * 1_000 }
    }
  }
}
