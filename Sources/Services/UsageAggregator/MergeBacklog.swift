import LogConsumer
import ServiceRuntime

/// The number of appended rows that wait to be merged. The flusher adds to it, and the mergers
/// subtract from it.
final class MergeBacklog: @unchecked Sendable {
  // All state is used with the condition's lock held.
  private let condition = MonotonicCondition()
  private var rows = 0
  private var added = 0
  private var owned: [Int32] = []
  private var behind = false
  private var changes = 0
  private var dead = 0
  /// The consumer was behind, and the rows from that time are not merged yet.
  private var settles = false
  private let gauge: Gauge

  /// This many rows are merged within a tenth of a second.
  private static let settledRows = 5_000
  /// A flush of more rows does without the index by license.
  private static let smallFlushRows = 50_000
  /// Readers walk over as many deleted rows, which an open transaction keeps, within about 50 ms.
  private static let mostDeadRows = 500_000

  init(gauge: Gauge) { self.gauge = gauge }

  func add(_ count: Int) {
    locked {
      added += max(0, count)
      rows = max(0, rows + count)
      if !behind, rows < Self.settledRows { settles = false }
      gauge.set(rows)
      changed()
    }
  }

  var count: Int { locked { rows } }

  /// How many rows were added so far.
  var allAdded: Int { locked { added } }

  /// Forgets the rows that were added before `mark`, a value of `allAdded`. A merge of all owned
  /// partitions has taken them, or another process owns their partitions now and has taken them.
  /// Nobody here would ever subtract the latter.
  func merged(before mark: Int) {
    locked {
      rows = min(rows, added - mark)
      gauge.set(rows)
      changed()
    }
  }

  var ownedPartitions: [Int32] {
    get { locked { owned } }
    set { locked { owned = newValue } }
  }

  /// Whether the consumer is reading as fast as it can. It then needs the processors more than
  /// readers need merged rows.
  var isBehind: Bool {
    get { locked { behind } }
    set {
      locked {
        guard behind != newValue else { return }
        behind = newValue
        settles = true
        changed()
      }
    }
  }

  /// How many deleted rows of small flushes the last vacuum could not remove.
  var deadRows: Int {
    get { locked { dead } }
    set { locked { dead = newValue } }
  }

  /// Whether a flush of so many rows gives them an index by license. It does so if the consumer
  /// keeps up and no open transaction keeps too many of such rows dead: readers find the others
  /// behind the marks of `usage_merged`.
  func isByLicense(_ rows: Int) -> Bool {
    locked { !behind && rows <= Self.smallFlushRows && dead <= Self.mostDeadRows }
  }

  /// Whether the consumer is behind, or was behind and most of the rows from that time are not
  /// merged. Until then, nothing that can wait should use the processors.
  var isSettling: Bool { locked { behind || settles } }

  /// The rows of a backlog are merged, and what waits now came afterwards.
  func settled() {
    locked { if !behind { settles = false } }
  }

  private func changed() {
    changes &+= 1
    condition.broadcast()
  }

  private func locked<T>(_ body: () -> T) -> T {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  /// Waits for a change after `seen`, up to a limit. A change is that rows were added or merged, or
  /// that the consumer fell behind or caught up.
  ///
  /// - Returns: the number of the latest change.
  func waitForChange(after seen: Int, milliseconds: Int) -> Int {
    let end = Monotonic.milliseconds + milliseconds
    condition.lock()
    defer { condition.unlock() }
    while changes == seen, condition.wait(until: end) {}
    return changes
  }

  /// Holds back a flush while too many rows wait, which bounds the cost of reading the views. It
  /// gives up after a while, because a merge that cannot run must not stop the counting.
  func waitForRoom(_ limit: Int, _ stop: StopSignal) {
    let end = Monotonic.milliseconds + 10_000
    condition.lock()
    defer { condition.unlock() }
    while rows > limit, !stop.isRaised, condition.wait(until: end) {}
  }
}
