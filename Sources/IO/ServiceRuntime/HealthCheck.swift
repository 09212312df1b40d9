import Foundation

/// `--healthcheck live|ready` of every service: asks the running service with the same settings for
/// its health, and ends. A container or a supervisor then needs no HTTP client.
package enum HealthCheck: String, CaseIterable, Sendable {
  case live
  case ready

  /// The text of the option in `--help`.
  package static let help: String =
    "Ask the running service of these settings whether it is live or ready, and end."

  private static let timeoutSeconds = 4
  private static let maximumAnswerBytes = 65_536

  /// Asks the address of `METER_ADMIN_BIND`, prints the answer on standard output, and ends the
  /// process.
  ///
  /// Exit status: 0 if the answer is 200, 1 for any other answer or none within 4 s, 78 if
  /// `METER_ADMIN_BIND` is invalid.
  /// - Parameter bind: the service's default for `METER_ADMIN_BIND`.
  package func run(service: String, bind: String) -> Never {
    signal(SIGPIPE, SIG_IGN)
    do {
      let address = try Settings().address("METER_ADMIN_BIND", default: bind)
      let answer = ask(address)
      print(LineText.singleLine(answer.text))
      exit(answer.isHealthy ? 0 : 1)
    } catch {
      StandardError.write(LineText.singleLine("\(service): \(error)") + "\n")
      exit(Supervisor.exitCode(for: error))
    }
  }

  /// Returns the answer of the service at `address`. An address that stands for all interfaces is
  /// asked by its loopback. Blocks the calling thread for at most 4 s.
  func ask(_ address: BindAddress) -> (isHealthy: Bool, text: String) {
    let host =
      switch address.host {
      case "0.0.0.0": "127.0.0.1"
      case "::": "::1"
      default: address.host
      }
    let target = BindAddress(host: host, port: address.port)
    guard let socket = Self.connect(target) else {
      return (false, "nothing answers on \(target)")
    }
    defer { close(socket) }
    let request = "GET /health/\(rawValue) HTTP/1.1\r\nHost: \(target)\r\nConnection: close\r\n\r\n"
    guard Self.write(Array(request.utf8), to: socket), let answer = Self.read(socket) else {
      return (false, "\(target) gave no answer within \(Self.timeoutSeconds) s")
    }
    let words = answer.split(separator: " ", maxSplits: 2)
    guard words.count == 3, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
      return (false, "the program that answers on \(target) is not this kind of service")
    }
    let body = answer.firstRange(of: "\r\n\r\n").map { answer[$0.upperBound...] } ?? ""
    return (status == 200, body.isEmpty ? "status \(status)" : String(body))
  }

  private static func connect(_ target: BindAddress) -> Int32? {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(target.host, String(target.port), &hints, &found) == 0 else { return nil }
    defer { freeaddrinfo(found) }
    var next = found
    while let entry = next?.pointee {
      next = entry.ai_next
      let made = socket(
        entry.ai_family, entry.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), entry.ai_protocol)
      guard made >= 0 else { continue }
      // On Linux, the send timeout also limits the time to connect.
      var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
      let size = socklen_t(MemoryLayout<timeval>.size)
      setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
      setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
      if Foundation.connect(made, entry.ai_addr, entry.ai_addrlen) == 0 { return made }
      close(made)
    }
    return nil
  }

  private static func write(_ bytes: [UInt8], to socket: Int32) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Foundation.write(socket, $0.baseAddress, $0.count)
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return false }
      sent += count
    }
    return true
  }

  /// Returns the whole answer; nil if it did not end in time or is too long.
  private static func read(_ socket: Int32) -> String? {
    let deadline = Monotonic.milliseconds + timeoutSeconds * 1_000
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 8_192)
    while bytes.count <= maximumAnswerBytes, Monotonic.milliseconds < deadline {
      let count = chunk.withUnsafeMutableBytes {
        Foundation.read(socket, $0.baseAddress, $0.count)
      }
      if count == 0 { return String(decoding: bytes, as: UTF8.self) }
      if count < 0 {
        if errno == EINTR { continue }
        return nil
      }
      bytes += chunk[..<count]
    }
    return nil
  }
}
