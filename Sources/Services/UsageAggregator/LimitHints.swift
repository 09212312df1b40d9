import EventCodec
import Metering
import ServiceRuntime
import Synchronization
import UsageAggregation

/// How much each limited license may still use until its next threshold, as of what this process
/// knows: a hint at when to look, never a verdict. The verdict is the merge's, on the authoritative
/// row; a hint that is wrong costs a merge too many, or the time until the next.
///
/// The thread of `EarlyMerger` writes hints, and the flusher's thread spends them. Each limited
/// license takes 16 bytes and the table's slack.
final class LimitHints: Sendable {
  struct Due: Sendable, Equatable {
    let license: Identifier
    let meter: Identifier
    let partition: Int32
  }

  private struct State {
    /// The hints by a hash of license and meter. Two that collide share a hint.
    var left: [Int: Int64] = [:]
    /// Taken by the judge; what is spent meanwhile counts on, below 0.
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

  /// Whether an amount may bring a license to a threshold, even together with as much in the same
  /// flush. It may where nothing is known of the license.
  func mayReach(
    license: UnsafeBufferPointer<UInt8>, meter: UnsafeBufferPointer<UInt8>, _ quantity: Int64
  ) -> Bool {
    let key = Self.key(license, meter)
    return state.withLock { state in state.left[key].map { $0 / 2 <= quantity } ?? true }
  }

  /// What became due, each with its hint at 0: from now on it counts what is spent while the judge
  /// works. Waits for the first.
  func takeDue(waitMilliseconds: Int) -> [Due] {
    wakeup.sleep(milliseconds: waitMilliseconds)
    return state.withLock { state in
      let due = state.due
      state.due = []
      for one in due { state.left[Self.key(one.license, one.meter)] = 0 }
      return due
    }
  }

  /// Sets what is left by the store, less what was spent since `takeDue`. Nil: nothing to wait for
  /// any more.
  func judged(_ due: Due, left: Int64?) {
    let key = Self.key(due.license, due.meter)
    state.withLock { state in
      state.judging.remove(key)
      // That may be merged already and so be taken off twice: then one merge too many follows.
      state.left[key] = left.map { max($0, 0) + min(state.left[key] ?? 0, 0) }
    }
  }

  /// By the store, which does not know of rows that wait to be merged: the smaller of the two is
  /// kept, so that a hint errs early.
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
