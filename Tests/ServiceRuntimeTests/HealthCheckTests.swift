import Foundation
import MeteringTestKit
import Synchronization
import Testing

@testable import ServiceRuntime

@Suite struct HealthCheckTests {
  private func answering(_ answer: String) throws -> (BindAddress, TCPAnswerer) {
    let answerer = try TCPAnswerer(Array(answer.utf8))
    return (BindAddress(host: "127.0.0.1", port: answerer.port), answerer)
  }

  @Test func `A service that answers 200 is healthy, and its answer is shown`() throws {
    let (address, answerer) = try answering("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ready\"}")
    let answer = HealthCheck.ready.ask(address)
    #expect(answer.isHealthy)
    #expect(answer.text == #"{"status":"ready"}"#)
    #expect(try answerer.request().hasPrefix("GET /health/ready HTTP/1.1\r\n"))
  }

  @Test func `A service that answers 503 is not healthy, and its reason is shown`() throws {
    let (address, answerer) = try answering(
      "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"problems\":{\"kafka\":\"away\"}}")
    let answer = HealthCheck.live.ask(address)
    #expect(!answer.isHealthy)
    #expect(answer.text == #"{"problems":{"kafka":"away"}}"#)
    #expect(try answerer.request().hasPrefix("GET /health/live HTTP/1.1\r\n"))
  }

  @Test func `An address of all interfaces is asked by its loopback`() throws {
    let (address, answerer) = try answering("HTTP/1.1 200 OK\r\n\r\n{}")
    #expect(HealthCheck.live.ask(BindAddress(host: "0.0.0.0", port: address.port)).isHealthy)
    withExtendedLifetime(answerer) {}
  }

  @Test func `No answer, another program's answer and an endless answer are not healthy`() throws {
    let nobody = BindAddress(host: "127.0.0.1", port: try FreePort.next())
    #expect(!HealthCheck.live.ask(nobody).isHealthy)
    let (other, first) = try answering("220 mail.example.com ESMTP\r\n")
    #expect(!HealthCheck.live.ask(other).isHealthy)
    let (endless, second) = try answering(
      "HTTP/1.1 200 OK\r\n\r\n" + String(repeating: "x", count: 1 << 20))
    #expect(!HealthCheck.live.ask(endless).isHealthy)
    withExtendedLifetime((first, second)) {}
  }
}

/// Takes one connection, reads the head of a request, writes what it was given, and closes.
private final class TCPAnswerer: Sendable {
  let port: Int
  private let server: Int32
  private let heard = Heard()

  private final class Heard: Sendable {
    let head = Mutex<String?>(nil)
  }

  init(_ answer: [UInt8]) throws {
    let (socket, port) = try TCP.listen()
    server = socket
    self.port = port
    Thread.detachNewThread { [heard] in
      guard let peer = TCP.accept(socket) else { return }
      let head = TCP.read(peer, atMost: 8_192).map { String(decoding: $0, as: UTF8.self) } ?? ""
      heard.head.withLock { $0 = head }
      _ = TCP.write(peer, answer)
      close(peer)
    }
  }

  deinit { close(server) }

  func request() throws -> String {
    try eventually("a request") { heard.head.withLock { $0 } }
  }
}
