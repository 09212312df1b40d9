import Foundation
import Logging
import Testing

@testable import ServiceRuntime

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

private struct Answer {
  let status: Int
  let type: String?
  let allow: String?
  let body: String
}

@Suite struct AdminServerTests {
  private let health = HealthState()
  private let metrics = MetricsRegistry()

  private func server(
    on address: BindAddress = BindAddress(host: "127.0.0.1", port: 0),
    onBound: @escaping @Sendable (Int) -> Void
  ) -> AdminServer {
    AdminServer(
      bind: address, health: health, metrics: metrics,
      logger: Logger(label: "admin", factory: { _ in SwiftLogNoOpLogHandler() }), onBound: onBound)
  }

  private func withServer(_ body: (Int) async throws -> Void) async throws {
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let admin = server { continuation.yield($0) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        // A server that cannot start must not leave the test waiting for its port.
        defer { continuation.finish() }
        try await admin.run()
      }
      var iterator = ports.makeAsyncIterator()
      if let port = await iterator.next() { try await body(port) }
      group.cancelAll()
      do { try await group.waitForAll() } catch is CancellationError {}
    }
  }

  private func ask(_ port: Int, _ path: String, method: String = "GET") async throws -> Answer {
    var request = URLRequest(url: try #require(URL(string: "http://127.0.0.1:\(port)\(path)")))
    request.httpMethod = method
    let (data, response) = try await URLSession.shared.data(for: request)
    let http = try #require(response as? HTTPURLResponse)
    return Answer(
      status: http.statusCode, type: http.value(forHTTPHeaderField: "Content-Type"),
      allow: http.value(forHTTPHeaderField: "Allow"), body: String(decoding: data, as: UTF8.self))
  }

  @Test func `It answers over HTTP on a free port`() async throws {
    metrics.counter("events_read_total", help: "Events read.").increment(by: 5)
    try await withServer { port in
      let live = try await ask(port, "/health/live")
      #expect(live.status == 200 && live.body == #"{"status":"live"}"#)
      #expect(live.type == "application/json")

      let ready = try await ask(port, "/health/ready")
      #expect(ready.status == 200 && ready.body == #"{"status":"ready","problems":{}}"#)
      health.report("kafka", problem: "no brokers")
      let unready = try await ask(port, "/health/ready?verbose=1")
      #expect(unready.status == 503)
      #expect(unready.body == #"{"status":"unavailable","problems":{"kafka":"no brokers"}}"#)

      let scrape = try await ask(port, "/metrics")
      #expect(scrape.status == 200 && scrape.body.hasSuffix("events_read_total 5\n"))
      #expect(scrape.type?.hasPrefix("text/plain; version=0.0.4") == true)

      let head = try await ask(port, "/metrics", method: "HEAD")
      #expect(head.status == 200 && head.body == "")
    }
  }

  @Test func `Unknown paths and methods get problem details`() async throws {
    try await withServer { port in
      for (method, path, status, code) in [
        ("GET", "/", 404, "not_found"), ("GET", "/health", 404, "not_found"),
        ("POST", "/metrics", 405, "method_not_allowed"),
        ("DELETE", "/health/ready", 405, "method_not_allowed"),
      ] {
        let answer = try await ask(port, path, method: method)
        #expect(answer.status == status)
        #expect(answer.type == "application/problem+json")
        #expect(answer.allow == (status == 405 ? "GET, HEAD" : nil))
        let problem = try #require(
          try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any])
        #expect(problem["status"] as? Int == status)
        #expect(problem["code"] as? String == code)
        #expect(problem["type"] as? String == "about:blank")
        #expect(problem["title"] is String && problem["detail"] is String)
      }
    }
  }

  @Test func `A taken address is one clear line`() async throws {
    try await withServer { port in
      do {
        try await server(on: BindAddress(host: "127.0.0.1", port: port)) { _ in }.run()
        Issue.record("the address was bound twice")
      } catch {
        #expect(
          "\(error)".hasPrefix("cannot listen on 127.0.0.1:\(port): Address already in use"),
          "\(error)")
      }
    }
  }
}
