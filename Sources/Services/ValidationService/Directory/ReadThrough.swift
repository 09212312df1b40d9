import ServiceRuntime
import Synchronization

/// Rows of PostgreSQL by key. They are kept in memory, read when they are missing, and read again
/// when they have changed.
///
/// Requests call `lookup`. A loader's thread takes the wanted keys, reads many rows in one
/// statement and hands them over. The numbers of entries, absent keys and waiting requests are
/// bounded, whatever is asked for.
final class ReadThrough<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  enum Lookup: Sendable {
    case found(Value)
    case missing
    /// PostgreSQL does not answer, and the key is not in memory.
    case unavailable
  }

  private struct Waiter {
    var since: Int
    var continuation: CheckedContinuation<Lookup, Never>
  }

  private struct State {
    var known: BoundedCache<Key, Value>
    /// Keys that do not exist, with the time at which that was learned.
    var absent: BoundedCache<Key, Int>
    var wanted: Set<Key> = []
    /// Keys that are being read. A change that is notified meanwhile may be newer than the answer.
    var reading: Set<Key> = []
    var waiters: [Key: [Waiter]] = [:]
    var waiting = 0
    var isDown = false
  }

  private let state: Mutex<State>
  private let wake: @Sendable () -> Void
  private let absentMilliseconds: Int
  private static var maximumWaiting: Int { 10_000 }
  private let waitMilliseconds: Int

  /// - Parameters:
  ///   - waitMilliseconds: how long a lookup waits for a loader that hangs.
  ///   - wake: tells the loader that a key is wanted.
  init(
    capacity: Int, absentMilliseconds: Int, waitMilliseconds: Int = 2_000,
    wake: @escaping @Sendable () -> Void
  ) {
    state = Mutex(
      State(
        known: BoundedCache(capacity: capacity),
        absent: BoundedCache(capacity: max(capacity / 10, 1_000))))
    self.absentMilliseconds = absentMilliseconds
    self.waitMilliseconds = waitMilliseconds
    self.wake = wake
  }

  /// Returns what is in memory; nil if the key must be read.
  func cached(_ key: Key) -> Lookup? {
    state.withLock { Self.cached(&$0, key, absentMilliseconds) }
  }

  private static func cached(_ state: inout State, _ key: Key, _ absentMilliseconds: Int) -> Lookup?
  {
    if let value = state.known.value(key) { return .found(value) }
    if let since = state.absent.value(key), Monotonic.milliseconds - since < absentMilliseconds {
      return .missing
    }
    return nil
  }

  func lookup(_ key: Key) async -> Lookup {
    await withCheckedContinuation { continuation in
      let answer = state.withLock { state -> Lookup? in
        if let cached = Self.cached(&state, key, absentMilliseconds) { return cached }
        guard !state.isDown, state.waiting < Self.maximumWaiting else { return .unavailable }
        state.wanted.insert(key)
        state.waiting += 1
        state.waiters[key, default: []].append(
          Waiter(since: Monotonic.milliseconds, continuation: continuation))
        return nil
      }
      if let answer { continuation.resume(returning: answer) } else { wake() }
    }
  }

  // MARK: The loader's side

  /// The number of keys to be read.
  var wantedCount: Int { state.withLock { $0.wanted.count } }

  /// Takes keys that should be read now.
  func take(_ most: Int) -> [Key] {
    state.withLock { state in
      let keys = Array(state.wanted.prefix(most))
      state.wanted.subtract(keys)
      state.reading = Set(keys)
      return keys
    }
  }

  func fulfill(_ keys: [Key], with found: [Key: Value]) {
    let ready = state.withLock { state -> [(CheckedContinuation<Lookup, Never>, Lookup)] in
      state.isDown = false
      state.reading.subtract(keys)
      var ready: [(CheckedContinuation<Lookup, Never>, Lookup)] = []
      for key in keys {
        let lookup: Lookup
        if let value = found[key] {
          state.known.set(key, value)
          lookup = .found(value)
        } else {
          state.known.remove(key)
          state.absent.set(key, Monotonic.milliseconds)
          lookup = .missing
        }
        for waiter in state.waiters.removeValue(forKey: key) ?? [] {
          state.waiting -= 1
          ready.append((waiter.continuation, lookup))
        }
      }
      return ready
    }
    for (continuation, lookup) in ready { continuation.resume(returning: lookup) }
  }

  /// PostgreSQL cannot take this key. Only the requests that wait for it are told.
  func refuse(_ key: Key) {
    let ready = state.withLock { state in
      state.isDown = false
      state.reading.remove(key)
      let waiters = state.waiters.removeValue(forKey: key) ?? []
      state.waiting -= waiters.count
      return waiters.map(\.continuation)
    }
    for continuation in ready { continuation.resume(returning: .unavailable) }
  }

  /// PostgreSQL does not answer. Waiting requests are told, and no request waits until it does.
  /// `keys` stay wanted.
  func fail(_ keys: [Key]) {
    let ready = state.withLock { state -> [CheckedContinuation<Lookup, Never>] in
      state.isDown = true
      state.reading = []
      // Changed rows in memory still have to be read. Other keys will be asked for again; if they
      // were kept, invented keys would pile up while reads fail.
      state.wanted = state.wanted.filter { state.known.contains($0) }
      for key in keys where state.known.contains(key) { state.wanted.insert(key) }
      defer {
        state.waiters = [:]
        state.waiting = 0
      }
      return state.waiters.values.flatMap { $0.map(\.continuation) }
    }
    for continuation in ready { continuation.resume(returning: .unavailable) }
  }

  func recover() { state.withLock { $0.isDown = false } }

  /// Ends waits that have lasted too long because the loader hangs in a call.
  func expireWaiters() {
    let limit = Monotonic.milliseconds - waitMilliseconds
    let late = state.withLock { state -> [CheckedContinuation<Lookup, Never>] in
      var late: [CheckedContinuation<Lookup, Never>] = []
      for (key, waiters) in state.waiters where waiters.contains(where: { $0.since <= limit }) {
        late += waiters.filter { $0.since <= limit }.map(\.continuation)
        let left = waiters.filter { $0.since > limit }
        state.waiters[key] = left.isEmpty ? nil : left
        // Nobody waits for the key any more, and it is not in memory.
        if left.isEmpty, !state.known.contains(key) { state.wanted.remove(key) }
      }
      state.waiting -= late.count
      return late
    }
    for continuation in late { continuation.resume(returning: .unavailable) }
  }

  /// The row changed or was created.
  func changed(_ key: Key) {
    let isKnown = state.withLock { state in
      state.absent.remove(key)
      guard state.known.contains(key) || state.reading.contains(key) else { return false }
      state.wanted.insert(key)
      return true
    }
    if isKnown { wake() }
  }

  /// Anything may have changed.
  func changedAll() {
    state.withLock { state in
      state.absent.removeAll()
      state.wanted.formUnion(state.known.keys)
      state.wanted.formUnion(state.reading)
    }
    wake()
  }
}
