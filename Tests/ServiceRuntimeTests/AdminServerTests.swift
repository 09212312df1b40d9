import Foundation
import Logging
import MeteringTestKit
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
      #expect(scrape.status == 200 && scrape.body.contains("\nevents_read_total 5\n"))
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

  /// Sends `text` on a new connection and reads the answer to its end.
  private func exchange(_ port: Int, _ text: String) -> String {
    guard let socket = TCP.connect(port: port, timeoutSeconds: 30) else { return "" }
    defer { close(socket) }
    guard TCP.write(socket, Array(text.utf8)) else { return "" }
    var answer: [UInt8] = []
    while let part = TCP.read(socket, atMost: 65_536) { answer += part }
    return String(decoding: answer, as: UTF8.self)
  }

  @Test func `Strangers that hold connections do not keep it from answering`() async throws {
    try await withServer { port in
      // These are more than it has room for, of every kind: silent, with half a head, or not
      // reading the answer.
      var held: [Int32] = []
      for number in 0..<200 {
        guard let socket = TCP.connect(port: port) else { continue }
        held.append(socket)
        let text = ["", "GET /metr", "GET /metrics HTTP/1.1\r\n\r\n"][number % 3]
        _ = TCP.write(socket, Array(text.utf8))
      }
      for _ in 0..<5 {
        let answer = try await ask(port, "/health/live")
        #expect(answer.status == 200)
      }
      for socket in held { close(socket) }
    }
  }

  @Test func `A text that is not a request is refused, and the next one is answered`() async throws
  {
    try await withServer { port in
      for text in [
        "\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n", "GET /metrics HTTP/2.0\r\n\r\n",
        "\u{1}\u{2}\u{3}\n\n", "GET /a b HTTP/1.1\r\n\r\n",
      ] { #expect(exchange(port, text).hasPrefix("HTTP/1.1 400 "), "\(text)") }
      let long = "GET /metrics HTTP/1.1\r\nx: \(String(repeating: "y", count: 20_000))"
      #expect(exchange(port, long).hasPrefix("HTTP/1.1 431 "))
      #expect(
        exchange(port, "POST /metrics HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello").hasPrefix(
          "HTTP/1.1 405 "))
      let absolute = exchange(port, "GET http://localhost:\(port)/health/live HTTP/1.1\n\n")
      #expect(absolute.hasPrefix("HTTP/1.1 200 ") && absolute.hasSuffix(#"{"status":"live"}"#))
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
