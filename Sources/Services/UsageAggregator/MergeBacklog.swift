import Foundation
import LogConsumer
import ServiceRuntime

/// The number of appended rows that wait to be merged. The flusher adds to it, and the mergers
/// subtract from it.
final class MergeBacklog: @unchecked Sendable {
  // All state is used with the condition's lock held.
  private let condition = NSCondition()
  private var rows = 0
  private var owned: [Int32] = []
  private var behind = false
  private let gauge: Gauge

  init(gauge: Gauge) { self.gauge = gauge }

  func add(_ count: Int) {
    locked {
      rows = max(0, rows + count)
      gauge.set(rows)
      condition.broadcast()
    }
  }

  var count: Int { locked { rows } }

  var ownedPartitions: [Int32] {
    get { locked { owned } }
    set { locked { owned = newValue } }
  }

  /// Whether the consumer reads as fast as it can. Then it needs the processors more than the
  /// readers need merged rows.
  var isBehind: Bool {
    get { locked { behind } }
    set { locked { behind = newValue } }
  }

  private func locked<T>(_ body: () -> T) -> T {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  /// Holds a flush back while too much waits, which bounds the cost of reading the views. It gives
  /// up after a while, because a merge that cannot run must not stop the counting.
  func waitForRoom(_ limit: Int, _ stop: StopSignal) {
    let end = Date(timeIntervalSinceNow: 10)
    condition.lock()
    defer { condition.unlock() }
    while rows > limit, !stop.isRaised, condition.wait(until: end) {}
  }
}
