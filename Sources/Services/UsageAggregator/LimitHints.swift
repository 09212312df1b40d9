import EventCodec
import Metering
import ServiceRuntime
import Synchronization
import UsageAggregation

/// How much each limited license may still use before its next threshold, as far as this process
/// knows. A hint only says when to look: the merge decides, on the authoritative row. A wrong hint
/// costs either one unnecessary merge or the time until the next one.
///
/// The thread of `EarlyMerger` writes hints, and the flusher's thread spends them. Each limited
/// license takes 16 bytes, plus the table's slack.
final class LimitHints: Sendable {
  struct Due: Sendable, Equatable {
    let license: Identifier
    let meter: Identifier
    let partition: Int32
  }

  private struct State {
    /// The hints, by a hash of license and meter. Two keys that collide share a hint.
    var left: [Int: Int64] = [:]
    /// The keys that are being judged. Spending continues meanwhile, below 0.
    var judging: Set<Int> = []
    var due: [Due] = []
  }

  private let state = Mutex(State())
  private let wakeup = Wakeup()

  var count: Int { state.withLock { $0.left.count } }

  /// Subtracts what a stored batch counted from the hints.
  func spend(_ table: borrowing UsageTable) {
    let isWorthIt = state.withLock { !$0.left.isEmpty }
    guard isWorthIt else { return }
    var found: [Due] = []
    table.forEachGroup { group, license, meter, _ in
      let key = Self.key(license.buffer, meter.buffer)
      let isDue = state.withLock { state in
        guard let left = state.left[key] else { return false }
        let (rest, overflow) = left.subtractingReportingOverflow(group.quantity)
        state.left[key] = overflow ? .min : rest
        return rest <= 0 && group.quantity > 0 && state.judging.insert(key).inserted
      }
      if isDue {
        found.append(
          Due(
            license: Identifier(license.string), meter: Identifier(meter.string),
            partition: group.partition))
      }
    }
    guard !found.isEmpty else { return }
    state.withLock { $0.due += found }
    wakeup.wake()
  }

  /// Whether an amount may bring a license to a threshold, even if the same flush holds as much
  /// again. An unknown license may always reach one.
  func mayReach(
    license: UnsafeBufferPointer<UInt8>, meter: UnsafeBufferPointer<UInt8>, _ quantity: Int64
  ) -> Bool {
    let key = Self.key(license, meter)
    return state.withLock { state in state.left[key].map { $0 / 2 <= quantity } ?? true }
  }

  /// Takes the hints that are due, and sets each to 0. From then on a hint counts what is spent
  /// while it is judged. Waits for the first one.
  func takeDue(waitMilliseconds: Int) -> [Due] {
    wakeup.sleep(milliseconds: waitMilliseconds)
    return state.withLock { state in
      let due = state.due
      state.due = []
      for one in due { state.left[Self.key(one.license, one.meter)] = 0 }
      return due
    }
  }

  /// Sets a hint to what the store says is left, minus what was spent since `takeDue`. Nil removes
  /// the hint, because there is no further threshold.
  func judged(_ due: Due, left: Int64?) {
    let key = Self.key(due.license, due.meter)
    state.withLock { state in
      state.judging.remove(key)
      // Some of that may have been merged already and is subtracted twice. The cost is one
      // unnecessary merge.
      state.left[key] = left.map { max($0, 0) + min(state.left[key] ?? 0, 0) }
    }
  }

  /// Takes over what the store says is left. The store does not know about rows that wait to be
  /// merged. The smaller value is kept, so a hint can only be early.
  func read(license: Identifier, meter: Identifier, left: Int64) {
    let key = Self.key(license, meter)
    state.withLock { $0.left[key] = min($0.left[key] ?? left, left) }
  }

  private static func key(_ license: Identifier, _ meter: Identifier) -> Int {
    var license = license.string
    var meter = meter.string
    return license.withUTF8 { license in meter.withUTF8 { key(license, $0) } }
  }

  private static func key(
    _ license: UnsafeBufferPointer<UInt8>, _ meter: UnsafeBufferPointer<UInt8>
  ) -> Int {
    var hasher = Hasher()
    hasher.combine(bytes: UnsafeRawBufferPointer(license))
    hasher.combine(UInt8(0))
    hasher.combine(bytes: UnsafeRawBufferPointer(meter))
    return hasher.finalize()
  }
}
