import Foundation
import Synchronization

/// Blocking sockets on 127.0.0.1.
package enum TCP {
  private static func address(_ port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port).bigEndian)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }

  private static func make() -> Int32 {
    // Close on exec: a child that inherits a listener would keep its port.
    socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  }

  package static func connect(port: Int, timeoutSeconds: Int = 0) -> Int32? {
    let descriptor = make()
    var address = address(port)
    if timeoutSeconds > 0 {
      var time = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
      let size = socklen_t(MemoryLayout<timeval>.size)
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
      setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
    }
    var one: Int32 = 1
    setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    let done = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    if done { return descriptor }
    close(descriptor)
    return nil
  }

  /// Opens a listening socket.
  ///
  /// - Parameter port: with 0 the system chooses.
  package static func listen(port: Int = 0) throws -> (descriptor: Int32, port: Int) {
    let descriptor = make()
    var address = address(port)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard bound, Foundation.listen(descriptor, 64) == 0 else {
      close(descriptor)
      throw NeverHappened(description: "no free port")
    }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  package static func accept(_ descriptor: Int32) -> Int32? {
    let accepted = Foundation.accept(descriptor, nil, nil)
    guard accepted >= 0 else { return nil }
    _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
    var one: Int32 = 1
    setsockopt(
      accepted, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    return accepted
  }

  /// Returns nil at the end, or after any error.
  package static func read(_ descriptor: Int32, atMost count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    let got = recv(descriptor, &bytes, count, 0)
    guard got > 0 else { return nil }
    return Array(bytes[..<got])
  }

  static func read(_ descriptor: Int32, exactly count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let got = bytes.withUnsafeMutableBytes {
        recv(descriptor, $0.baseAddress! + done, count - done, 0)
      }
      guard got > 0 else { return nil }
      done += got
    }
    return bytes
  }

  package static func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
      let sent = bytes.withUnsafeBytes {
        send(descriptor, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      guard sent > 0 else { return false }
      done += sent
    }
    return true
  }
}

package enum FreePort {
  private static let given = Mutex<Set<Int>>([])

  /// A port that nobody listens on and that was not returned before. The caller should bind it
  /// soon. It is below the ports that the system gives to outgoing connections, because one of
  /// those could take it before its service listens.
  package static func next() throws -> Int {
    for _ in 0..<1_000 {
      let port = Int.random(in: 20_000..<32_000)
      // Another process may listen there.
      guard let (descriptor, _) = try? TCP.listen(port: port) else { continue }
      close(descriptor)
      if given.withLock({ $0.insert(port).inserted }) { return port }
    }
    throw NeverHappened(description: "no free port")
  }
}
