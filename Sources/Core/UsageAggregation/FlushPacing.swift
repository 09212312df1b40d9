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
  /// A pace that every machine keeps.
  private static let recordsReadPerMillisecond: Int64 = 100
  private static let endMilliseconds = 500

  /// The age at which a batch is due while the consumer keeps up.
  package var interval: Int
  /// The greatest age while it is behind: larger flushes write fewer rows.
  package var catchUpInterval: Int
  package var maximumEntries: Int

  /// Records that the broker has and that were not read yet.
  package var lag: Int64 = 0
  private var openedAt: Int?
  private var endMovedAt: Int?

  package init(interval: Int, catchUpInterval: Int, maximumEntries: Int) {
    self.interval = interval
    self.catchUpInterval = catchUpInterval
    self.maximumEntries = maximumEntries
  }

  package var isBehind: Bool { lag > Self.behindRecords }

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
    if let openedAt, now - openedAt >= age { return true }
    if let endMovedAt, now - endMovedAt >= Self.endMilliseconds { return true }
    return (openedAt ?? endMovedAt) != nil && entries >= maximumEntries
  }

  /// While behind, about as long as catching up may take, so that no record waits long after the
  /// end is reached.
  private var age: Int {
    guard isBehind else { return interval }
    return min(Int(lag / Self.recordsReadPerMillisecond), catchUpInterval)
  }
}
