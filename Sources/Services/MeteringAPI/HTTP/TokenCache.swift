import Metering
import ServiceRuntime
import Synchronization

/// The tokens that were looked up a moment ago, so that one client's many reads do not each ask
/// PostgreSQL.
///
/// Only reads use it. A revoked token is accepted for `lifetimeMilliseconds` at most, and not at all
/// after this process has answered a write. Invalid tokens are not kept, so guessing fills nothing.
final class TokenCache: Sendable {
  static let lifetimeMilliseconds = 100
  private static let most = 1_000

  private struct State {
    var entries: [String: (caller: Caller, until: Int)] = [:]
    /// The number of times that everything was forgotten.
    var generation = 0
  }

  private let state = Mutex(State())

  /// - Parameters:
  ///   - hash: the hash of the token.
  ///   - now: the time in monotonic milliseconds.
  ///   - lookUp: returns nil if the token is not valid.
  func caller(
    _ hash: String, now: Int = Monotonic.milliseconds, lookUp: () async throws -> Caller?
  ) async throws -> Caller? {
    let (known, generation) = state.withLock { state in
      (state.entries[hash].flatMap { now < $0.until ? $0.caller : nil }, state.generation)
    }
    if let known { return known }
    guard let found = try await lookUp() else { return nil }
    state.withLock { state in
      // A write may have changed what was read before it.
      guard state.generation == generation else { return }
      if state.entries.count >= Self.most { state.entries = [:] }
      state.entries[hash] = (found, now + Self.lifetimeMilliseconds)
    }
    return found
  }

  /// Forgets everything after a write, because it may have changed any token. A stranger changes
  /// none, and must not make others' reads ask PostgreSQL.
  func forgetAll(after caller: Caller) {
    if caller.kind != .nobody { forgetAll() }
  }

  func forgetAll() {
    state.withLock { state in
      state.entries = [:]
      state.generation += 1
    }
  }
}
