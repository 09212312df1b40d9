/// When the open batch is handed over. All times are milliseconds of a monotonic clock.
///
/// A batch is due when it is as old as the interval, and when it holds as many entries as are
/// allowed. It is also due soon after a position moved without a record. An offset after control
/// records and aborted transactions must be stored too, because otherwise lag would remain for
/// ever.
package struct FlushPacing: Sendable, Equatable {
  /// If more records than this are left to read, throughput matters more than latency. At 100,000
  /// events/s a twentieth of this is always on its way. Full batches are not a sign of lag, because
  /// a consumer that outruns its fetches never has one.
  package static let behindRecords: Int64 = 100_000
  /// So few records are read within a few milliseconds, so the end counts as reached.
  private static let endRecords: Int64 = 1_000
  /// How long a batch waits for the end once the consumer is no longer behind. If producers are as
  /// fast as the consumer, it never gets nearer, and readers must not wait for that.
  private static let endGraceMilliseconds = 250
  private static let endMilliseconds = 500

  /// The age at which a batch is due while the consumer keeps up.
  package var interval: Int
  /// The greatest age of a batch while the consumer catches up, because larger flushes write fewer
  /// rows.
  package var catchUpInterval: Int
  package var maximumEntries: Int

  /// The records that the broker had and that were not read yet at the last look.
  package private(set) var lag: Int64 = 0
  /// Whether the consumer was behind and has not reached the end yet. One flush at the end writes
  /// fewer rows than one shortly before it and another one after it.
  package private(set) var isCatchingUp = false
  private var cameNearAt: Int?
  private var openedAt: Int?
  private var endMovedAt: Int?

  package init(interval: Int, catchUpInterval: Int, maximumEntries: Int) {
    self.interval = interval
    self.catchUpInterval = catchUpInterval
    self.maximumEntries = maximumEntries
  }

  package var isBehind: Bool { lag > Self.behindRecords }

  package mutating func found(lag: Int64, at now: Int) {
    self.lag = lag
    guard !isBehind else {
      isCatchingUp = true
      cameNearAt = nil
      return
    }
    guard isCatchingUp else { return }
    let since = cameNearAt ?? now
    isCatchingUp = lag > Self.endRecords && now - since < Self.endGraceMilliseconds
    cameNearAt = isCatchingUp ? since : nil
  }

  package mutating func tookRecord(at now: Int) { openedAt = openedAt ?? now }

  /// Notes that a position moved at the end of a partition without a record.
  package mutating func endMoved(at now: Int) { endMovedAt = endMovedAt ?? now }

  /// Notes that the batch stays open for another interval.
  package mutating func keptOpen(at now: Int) {
    openedAt = now
    if endMovedAt != nil { endMovedAt = now }
  }

  package mutating func sealed() {
    openedAt = nil
    endMovedAt = nil
  }

  package func isDue(at now: Int, entries: Int) -> Bool {
    if let openedAt, now - openedAt >= (isCatchingUp ? catchUpInterval : interval) { return true }
    if let endMovedAt, now - endMovedAt >= Self.endMilliseconds { return true }
    return (openedAt ?? endMovedAt) != nil && entries >= maximumEntries
  }
}
