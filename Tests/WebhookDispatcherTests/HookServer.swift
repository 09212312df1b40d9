import Foundation

/// An HTTP endpoint on 127.0.0.1, with one thread for each connection. Its path decides how it
/// answers, honestly or not.
final class HookServer: @unchecked Sendable {
  // All mutable state is behind the condition's lock.
  struct Received: Sendable {
    var path: String
    var headers: [String: String]
    var body: String

    var id: String { headers["webhook-id"] ?? "" }
  }

  let port: Int
  private let listener: Int32
  private let condition = NSCondition()
  private var all: [Received] = []
  private var connections: [Int32] = []
  private var isOver = false
  private var underway = 0
  private var mostUnderway = 0
  private var healed = false
  private var isSick = false
  private var made = 0

  init() throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = listener
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    struct NoPort: Error {}
    guard bound, listen(listener, 512) == 0 else { throw NoPort() }
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread.detachNewThread { [weak self, listener] in
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { break }
        // Without this, a child that inherited it would keep it open.
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        guard let server = self, server.enter(connection) else {
          close(connection)
          return
        }
        Thread.detachNewThread { [weak server] in
          server?.serve(connection)
          server?.leave(connection)
        }
      }
      // It is closed only here. Its number must not be reused while this thread may still accept.
      close(listener)
    }
  }

  func end() {
    condition.lock()
    defer { condition.unlock() }
    if isOver { return }
    isOver = true
    for connection in connections { shutdown(connection, Int32(SHUT_RDWR)) }
    condition.broadcast()
    shutdown(listener, Int32(SHUT_RDWR))
  }

  deinit { end() }

  func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

  var received: [Received] { locked { all } }
  var mostAtOnce: Int { locked { mostUnderway } }
  var connectionsMade: Int { locked { made } }

  /// Ends every connection, as a receiver that restarts does.
  func dropConnections() {
    locked { for connection in connections { shutdown(connection, Int32(SHUT_RDWR)) } }
  }

  /// From now on `/sick` hangs, until `heal` is called.
  func sicken() { locked { isSick = true } }

  /// From now on `/wait`, `/dead` and `/sick` answer 200, and `/leaving` answers 410.
  func heal() {
    locked {
      healed = true
      isSick = false
    }
  }

  private func locked<T>(_ body: () -> T) -> T {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  private func enter(_ connection: Int32) -> Bool {
    locked {
      if !isOver { connections.append(connection) }
      made += 1
      return !isOver
    }
  }

  private func leave(_ connection: Int32) {
    locked {
      connections.removeAll { $0 == connection }
      _ = close(connection)
    }
  }

  /// Sleeps for that long, or until the server ends.
  private func hold(_ seconds: Double) {
    let end = Date(timeIntervalSinceNow: seconds)
    condition.lock()
    while !isOver, condition.wait(until: end) {}
    condition.unlock()
  }

  private func serve(_ connection: Int32) {
    var buffer: [UInt8] = []
    while let request = Self.read(connection, &buffer) {
      locked {
        all.append(request)
        underway += 1
        mostUnderway = max(mostUnderway, underway)
      }
      let goesOn = answer(request, connection)
      locked { underway -= 1 }
      if !goesOn { return }
    }
  }

  private func answer(_ request: Received, _ connection: Int32) -> Bool {
    func send(_ text: String) -> Bool { Self.write(connection, Array(text.utf8)) }
    func plain(_ status: String, _ headers: String = "", _ body: String = "ok") -> Bool {
      send("HTTP/1.1 \(status)\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }
    if let number = Int(request.path.dropFirst("/hostile/".count)),
      request.path.hasPrefix("/hostile/")
    {
      _ = Self.write(connection, HostileAnswers.all[number].bytes)
      return false
    }
    switch request.path {
    case "/wait":
      return locked({ healed }) ? plain("200 OK") : plain("429 Later", "Retry-After: 3600\r\n")
    case "/fail": return plain("500 Oops", "", String(repeating: "x", count: 3_000))
    case "/dead": return locked { healed } ? plain("200 OK") : plain("503 Away")
    case "/gone": return plain("410 Gone")
    case "/leaving":
      while !locked({ healed || isOver }) { hold(0.05) }
      return plain("410 Gone")
    case "/later": return plain("429 Later", "Retry-After: 120\r\n")
    case "/redirect": return plain("302 Found", "Location: \(url("/target"))\r\n")
    case "/hang":
      hold(30)
      return false
    case "/sick":
      if locked({ isSick }) { hold(30) }
      return plain("200 OK")
    case "/slow":
      hold(1.5)
      return plain("200 OK")
    case "/close": return false
    case "/half":
      _ = send("HTTP/1.1 200 OK\r\nContent-Le")
      return false
    case "/garbage":
      _ = send("\u{1}\u{2}not http at all\r\n\r\n")
      return false
    case "/trickle":
      _ = send("HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n")
      while !locked({ isOver }), send("x") { hold(0.05) }
      return false
    case "/bomb":
      guard send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000000\r\n\r\n")
      else {
        return false
      }
      let block = [UInt8](repeating: 0, count: 65_536)
      while Self.write(connection, block) {}
      return false
    case "/headers":
      guard send("HTTP/1.1 200 OK\r\n") else { return false }
      let line = "X-Y: \(String(repeating: "y", count: 4_000))\r\n"
      while send(line) {}
      return false
    default: return plain("200 OK")
    }
  }

  private static func read(_ connection: Int32, _ buffer: inout [UInt8]) -> Received? {
    func more() -> Bool {
      var part = [UInt8](repeating: 0, count: 65_536)
      let got = recv(connection, &part, part.count, 0)
      guard got > 0 else { return false }
      buffer += part[..<got]
      return true
    }
    let end = Array("\r\n\r\n".utf8)
    var head: Int?
    while head == nil {
      head = buffer.firstRange(of: end)?.lowerBound
      if head == nil, !more() { return nil }
    }
    let lines = String(decoding: buffer[..<head!], as: UTF8.self).components(separatedBy: "\r\n")
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] = line[line.index(after: colon)...]
        .trimmingCharacters(in: .whitespaces)
    }
    let length = Int(headers["content-length"] ?? "0") ?? 0
    while buffer.count < head! + 4 + length { if !more() { return nil } }
    let body = String(decoding: buffer[(head! + 4)..<(head! + 4 + length)], as: UTF8.self)
    buffer.removeFirst(head! + 4 + length)
    let words = lines[0].split(separator: " ")
    return Received(path: words.count > 1 ? String(words[1]) : "", headers: headers, body: body)
  }

  private static func write(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
      let sent = bytes.withUnsafeBytes {
        send(connection, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      guard sent > 0 else { return false }
      done += sent
    }
    return true
  }
}
