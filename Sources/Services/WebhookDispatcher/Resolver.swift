import Foundation
package import Metering
import NIOCore
import NIOPosix
import ServiceRuntime
import Synchronization
package import WebhookDelivery

/// Resolves names to addresses.
package protocol NameResolver: Sendable {
  /// Returns every address of the name. The caller checks all of them and connects to one of these.
  /// - Throws: `ResolutionFailure`, `LookupNeverBegan`, or `CancellationError`.
  func addresses(of host: String) async throws -> [IPAddress]
}

package struct ResolutionFailure: Error, CustomStringConvertible {
  package let description: String

  package init(description: String) { self.description = description }
}

/// The caller gave up before the look-up had begun. The endpoint is not to blame.
package struct LookupNeverBegan: Error {
  package init() {}
}

/// The system's resolver. Each look-up has its own thread, because it blocks for as long as a name
/// server is silent. `LookupSchedule` decides which look-ups may begin. Answers are kept for five
/// seconds, because thousands of deliveries may go to one name. Failures are not kept.
package final class SystemResolver: NameResolver {
  private static let keepMilliseconds: Int64 = 5_000
  /// Customers choose the names, so the number of kept answers is bounded.
  private static let maximumKept = 4_096
  /// `getaddrinfo` needs far less.
  private static let stackBytes = 256 * 1_024

  private struct State {
    var schedule: LookupSchedule
    var waiting: [String: [OneAnswer]] = [:]
    var kept: [String: (until: Int64, addresses: [IPAddress])] = [:]
  }

  private let state: Mutex<State>
  private let slowAfterMilliseconds: Int64
  private let lookUp: @Sendable (String) throws -> [IPAddress]

  /// - Parameter lookUp: blocks until it has an answer. Tests pass their own.
  package init(
    limits: LookupSchedule.Limits = .init(),
    lookUp: @escaping @Sendable (String) throws -> [IPAddress] = SystemResolver.askSystem
  ) {
    state = Mutex(State(schedule: LookupSchedule(limits: limits)))
    slowAfterMilliseconds = limits.slowAfterMilliseconds
    self.lookUp = lookUp
  }

  package func addresses(of host: String) async throws -> [IPAddress] {
    let answer = OneAnswer()
    let known = state.withLock { state -> [IPAddress]? in
      if let known = state.kept[host], known.until > Int64(Monotonic.milliseconds) {
        return known.addresses
      }
      state.waiting[host, default: []].append(answer)
      state.schedule.add(host)
      return nil
    }
    if let known { return known }
    advance()
    do {
      return try await answer.value()
    } catch is CancellationError {
      let hasBegun = state.withLock { state in
        state.waiting[host]?.removeAll { $0 === answer }
        if state.waiting[host]?.isEmpty == true {
          state.waiting[host] = nil
          state.schedule.withdraw(host)
        }
        return state.schedule.isUnderway(host)
      }
      throw hasBegun ? CancellationError() as any Error : LookupNeverBegan()
    }
  }

  /// Begins all look-ups that may begin.
  private func advance() {
    let begun = state.withLock { state in
      let now = Int64(Monotonic.milliseconds)
      state.schedule.tick(now: now)
      return state.schedule.next(now: now)
    }
    for host in begun {
      let thread = Thread { self.run(host) }
      thread.stackSize = Self.stackBytes
      thread.start()
      // The look-up may free its slot for others then.
      MultiThreadedEventLoopGroup.singleton.any().scheduleTask(
        in: .milliseconds(slowAfterMilliseconds + 1)
      ) { [weak self] in self?.advance() }
    }
  }

  private func run(_ host: String) {
    let result = Result { try lookUp(host) }
    let waiting = state.withLock { state in
      let now = Int64(Monotonic.milliseconds)
      if case .success(let addresses) = result {
        state.schedule.finished(host, now: now, answered: true)
        if state.kept.count >= Self.maximumKept { state.kept.removeAll() }
        state.kept[host] = (now + Self.keepMilliseconds, addresses)
      } else {
        state.schedule.finished(host, now: now, answered: false)
      }
      return state.waiting.removeValue(forKey: host) ?? []
    }
    for answer in waiting { answer.give(result) }
    advance()
  }

  /// Asks `getaddrinfo`.
  package static func askSystem(_ host: String) throws -> [IPAddress] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, nil, &hints, &list)
    guard code == 0 else { throw ResolutionFailure(description: words(code)) }
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

  private static func words(_ code: Int32) -> String {
    switch code {
    case EAI_NONAME: "the name does not exist"
    case EAI_AGAIN: "the name servers gave no answer"
    case EAI_FAIL: "the name servers refused to answer"
    default: "the name cannot be resolved"
    }
  }

  /// Reads the address from its text, which is the same on every system. A zone (`%eth0`) is not
  /// part of an address.
  private static func address(_ entry: addrinfo) -> IPAddress? {
    var text = [CChar](repeating: 0, count: 256)
    let code = getnameinfo(
      entry.ai_addr, entry.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
    guard code == 0 else { return nil }
    let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return IPAddress(String(decoding: bytes, as: UTF8.self))
  }
}

/// An answer whose caller may stop waiting for it.
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
