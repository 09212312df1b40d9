import Foundation
import MeteringTestKit
import Synchronization

/// An OpenTelemetry collector on 127.0.0.1. It answers with one status after the other, and then
/// repeats the last one.
final class Collector: Sendable {
  struct Received: Sendable {
    var head: String
    var body: [UInt8]
  }

  let port: Int
  private let listener: Int32
  private let state: Mutex<(received: [Received], statuses: [Int])>

  var received: [Received] { state.withLock { $0.received } }

  init(_ statuses: [Int] = [200]) throws {
    let (listener, port) = try TCP.listen()
    self.listener = listener
    self.port = port
    state = Mutex(([], statuses))
    Thread.detachNewThread { [weak self] in
      while let peer = TCP.accept(listener) {
        self?.serve(peer)
        close(peer)
      }
      close(listener)
    }
  }

  /// The thread closes the descriptor, so that it cannot be reused while the thread still accepts.
  deinit { shutdown(listener, Int32(SHUT_RDWR)) }

  private func serve(_ peer: Int32) {
    var bytes: [UInt8] = []
    let end = Array("\r\n\r\n".utf8)
    while let part = TCP.read(peer, atMost: 65_536) {
      bytes += part
      guard let head = bytes.firstRange(of: end) else { continue }
      let text = String(decoding: bytes[..<head.lowerBound], as: UTF8.self)
      let length = text.lowercased().components(separatedBy: "\r\n")
        .first { $0.hasPrefix("content-length:") }
        .flatMap { Int($0.dropFirst("content-length:".count).trimmingCharacters(in: .whitespaces)) }
      guard let length, bytes.count - head.upperBound >= length else { continue }
      let status = state.withLock { state in
        state.received.append(Received(head: text, body: Array(bytes[head.upperBound...])))
        return state.statuses.count > 1 ? state.statuses.removeFirst() : state.statuses[0]
      }
      _ = TCP.write(
        peer,
        Array("HTTP/1.1 \(status) X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}".utf8))
      return
    }
  }
}
