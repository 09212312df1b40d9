/// When the open batch is handed over. All times are milliseconds of a monotonic clock.
///
/// A batch is due when it is as old as the interval, when it holds as many entries as are allowed,
/// or soon after a position moved without a record: an offset behind control records and aborted
/// transactions must be stored too, or lag stays for ever.
package struct FlushPacing: Sendable, Equatable {
  /// More records than this left to read, and throughput matters more than the latency of each: at
  /// 100,000 events/s a twentieth of this is on its way at any time. Full batches are no sign: a
  /// consumer that outruns its fetches never sees one.
  package static let behindRecords: Int64 = 100_000
  /// So few are read within a few milliseconds: the end is reached.
  private static let endRecords: Int64 = 1_000
  /// So long a batch waits for the end once the consumer is not behind any more. A consumer that
  /// never gets nearer, because producers are as fast, must not keep its readers waiting.
  private static let endGraceMilliseconds = 250
  private static let endMilliseconds = 500

  /// The age at which a batch is due while the consumer keeps up.
  package var interval: Int
  /// The greatest age while it catches up: larger flushes write fewer rows.
  package var catchUpInterval: Int
  package var maximumEntries: Int

  /// Records that the broker has and that were not read yet, when it was last looked.
  package private(set) var lag: Int64 = 0
  /// It was behind and has not reached the end since: one flush at the end writes fewer rows than
  /// one shortly before it and another one behind it.
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

  /// A position moved by the end of a partition, without a record.
  package mutating func endMoved(at now: Int) { endMovedAt = endMovedAt ?? now }

  /// The batch was looked at and stays open for another interval.
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
