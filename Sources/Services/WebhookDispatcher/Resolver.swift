import Foundation
package import Metering
import NIOPosix
import ServiceRuntime
import Synchronization
import WebhookDelivery

/// Names to addresses.
package protocol NameResolver: Sendable {
  /// Every address of the name; the caller checks them, and connects to one of these and no other.
  /// - Throws: `ResolutionFailure`, or `CancellationError`.
  func addresses(of host: String) async throws -> [IPAddress]
}

package struct ResolutionFailure: Error, CustomStringConvertible {
  package let description: String

  package init(description: String) { self.description = description }
}

/// The system's resolver, on threads of its own: a name server that does not answer holds one of them and nobody else. Answers are kept for
/// five seconds, since thousands of deliveries may go to one name; failures are not.
package final class SystemResolver: NameResolver {
  private static let keepMilliseconds: Int64 = 5_000
  /// Names are customers' choice: what is kept is bounded.
  private static let maximumKept = 4_096

  private let pool: NIOThreadPool
  private let kept = Mutex<[String: (until: Int64, addresses: [IPAddress])]>([:])

  package init(threads: Int = 16) {
    pool = NIOThreadPool(numberOfThreads: threads)
    pool.start()
  }

  deinit { pool.shutdownGracefully { _ in } }

  package func addresses(of host: String) async throws -> [IPAddress] {
    let now = Int64(Monotonic.milliseconds)
    if let known = kept.withLock({ $0[host] }), known.until > now { return known.addresses }
    let answer = OneAnswer()
    pool.submit { state in
      guard case .active = state else { return answer.give(.failure(CancellationError())) }
      answer.give(Result { try Self.lookUp(host) })
    }
    let found = try await answer.value()
    kept.withLock { kept in
      if kept.count >= Self.maximumKept { kept.removeAll() }
      kept[host] = (Int64(Monotonic.milliseconds) + Self.keepMilliseconds, found)
    }
    return found
  }

  private static func lookUp(_ host: String) throws -> [IPAddress] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, nil, &hints, &list)
    guard code == 0 else {
      throw ResolutionFailure(description: String(cString: gai_strerror(code)))
    }
    defer { freeaddrinfo(list) }
    var found: [IPAddress] = []
    var entry = list
    while let current = entry {
      if let address = address(current.pointee), !found.contains(address) { found.append(address) }
      entry = current.pointee.ai_next
    }
    guard !found.isEmpty else { throw ResolutionFailure(description: "the name has no address") }
    return found
  }

  private static func address(_ entry: addrinfo) -> IPAddress? {
    let raw = UnsafeRawPointer(entry.ai_addr)
    switch entry.ai_family {
    case AF_INET:
      var found = raw!.loadUnaligned(as: sockaddr_in.self).sin_addr
      return IPAddress(bytes: withUnsafeBytes(of: &found) { Array($0) })
    case AF_INET6:
      var found = raw!.loadUnaligned(as: sockaddr_in6.self).sin6_addr
      return IPAddress(bytes: withUnsafeBytes(of: &found) { Array($0) })
    default: return nil
    }
  }
}

/// An answer that its asker may give up waiting for.
private final class OneAnswer: Sendable {
  private enum State {
    case empty
    case waited(CheckedContinuation<[IPAddress], any Error>)
    case given(Result<[IPAddress], any Error>)
    case over
  }

  private let state = Mutex(State.empty)

  func give(_ result: Result<[IPAddress], any Error>) {
    let waiting = state.withLock { state -> CheckedContinuation<[IPAddress], any Error>? in
      switch state {
      case .empty:
        state = .given(result)
        return nil
      case .waited(let continuation):
        state = .over
        return continuation
      case .given, .over: return nil
      }
    }
    waiting?.resume(with: result)
  }

  func value() async throws -> [IPAddress] {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let given = state.withLock { state -> Result<[IPAddress], any Error>? in
          if case .given(let result) = state {
            state = .over
            return result
          }
          state = .waited(continuation)
          return nil
        }
        if let given { continuation.resume(with: given) }
      }
    } onCancel: {
      give(.failure(CancellationError()))
    }
  }
}
