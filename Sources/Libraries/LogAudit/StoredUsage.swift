import Metering
package import PostgresStore
package import Recount

/// An hour or minute of a license and meter, counted from one partition in one epoch of the log.
package struct StoredKey: Hashable {
  package var logEpoch: Int32
  package var partition: Int32
  package var usage: UsageKey

  package init(logEpoch: Int32, partition: Int32, usage: UsageKey) {
    self.logEpoch = logEpoch
    self.partition = partition
    self.usage = usage
  }
}

/// What PostgreSQL stores at one snapshot. It has everything that reconcile compares, and
/// everything that it needs to judge the log.
package struct StoredUsage {
  package struct Hour {
    package var tally: Tally
    package var firstOffset: Int64
    package var lastOffset: Int64

    /// An empty hour at the row's offsets.
    fileprivate init(_ row: UsageReads.Stored) {
      tally = Tally()
      firstOffset = row.firstOffset
      lastOffset = row.lastOffset
    }

    fileprivate mutating func add(_ row: UsageReads.Stored) {
      tally.add(row.tally)
      firstOffset = min(firstOffset, row.firstOffset)
      lastOffset = max(lastOffset, row.lastOffset)
    }
  }

  package struct Position {
    package var nextOffset: Int64
    package var logEpoch: Int32
  }

  package struct ProducerKey: Hashable {
    package var partition: Int32
    package var producer: ExactText

    package init(partition: Int32, producer: ExactText) {
      self.partition = partition
      self.producer = producer
    }
  }

  package var range: UsageReads.Minutes
  /// The time of the snapshot in milliseconds since 1970.
  package var takenAt: Int64 = 0
  package var positions: [Int32: Position] = [:]
  package var windows: [Int32: [WindowSize]] = [:]
  package var importBatches: [ExactText: Int64] = [:]
  package var gaps: [UsageReads.Gap] = []
  /// The places at which partitions of a grown topic begin.
  package var branches: [Int32: GrowthStore.Branch] = [:]
  /// The places at which the producers' sequences are known, ascending.
  package var checkpoints: [Int32: [AuditCheckpointStore.Place]] = [:]
  package var deadLetters: [UsageReads.DeadLetterPlace] = []
  package var producers: [ProducerKey: LedgerEntry] = [:]
  /// Partitions that forgot producers without a known report.
  package var forgetful: Set<Int32> = []
  package var ledger: [UsageReads.LedgerSum] = []
  /// All hours that touch the range.
  package var hours: [StoredKey: Hour] = [:]
  package var minutes: [StoredKey: Tally] = [:]
  package var days = Totals(window: .day)
  package var dimensions: [DimensionKey: Tally] = [:]
  package var disagreements: [UsageReads.Disagreement] = []
  package var quarantined: [(license: String, rows: Int64)] = []

  /// The records that were too old when they were counted. Registering their import batch
  /// afterwards changes nothing.
  package var refusedForAge: Set<LogPosition> {
    Set(
      deadLetters.filter {
        $0.reason == "too_old" && !$0.isLost
          && $0.logEpoch == positions[$0.partition]?.logEpoch
      }
      .map { LogPosition(partition: $0.partition, offset: $0.offset) })
  }

  package init(range: UsageReads.Minutes) {
    self.range = range
  }

  /// The gaps of a partition in the epoch that is being read.
  package func gaps(of partition: Int32) -> [UsageReads.Gap] {
    gaps.filter { $0.partition == partition && $0.logEpoch == positions[partition]?.logEpoch }
  }

  /// The first checkpoint from which a log that begins at `low` can be recounted.
  package func checkpoint(of partition: Int32, low: Int64) -> AuditCheckpointStore.Place? {
    guard let position = positions[partition] else { return nil }
    return checkpoints[partition]?.first {
      $0.logEpoch == position.logEpoch && $0.nextOffset >= low
        && $0.nextOffset <= position.nextOffset
    }
  }

  /// The last checkpoint before `offset` that a log which begins at `low` still reaches. If there
  /// is none, the first one after it.
  package func checkpoint(
    of partition: Int32, low: Int64, before offset: Int64
  ) -> AuditCheckpointStore.Place? {
    checkpoints[partition]?.last { $0.nextOffset >= low && $0.nextOffset <= offset }
      ?? checkpoint(of: partition, low: low)
  }

  /// Reads where the log is read and how it is judged, as a part of a snapshot.
  package mutating func readPositions(
    _ connection: PostgresConnection, group: String, topic: String
  ) throws {
    let reads = UsageReads(connection)
    takenAt = try reads.serverMilliseconds()
    let offsets = OffsetStore(connection, group: group, topic: topic)
    for stored in try offsets.stored() {
      positions[stored.partition] = Position(
        nextOffset: stored.nextOffset, logEpoch: stored.logEpoch)
    }
    for window in try offsets.windows() where positions[window.partition]?.logEpoch == window.epoch
    {
      windows[window.partition, default: []].append(
        WindowSize(fromOffset: window.fromOffset, size: Int64(window.size)))
    }
    for (batch, oldest) in try reads.importBatches() { importBatches[ExactText(batch)] = oldest }
    gaps = try reads.gaps(group: group, topic: topic)
    for branch in try GrowthStore(connection, topic: topic).branches(group: group) {
      branches[branch.partition] = branch
    }
    let places = try AuditCheckpointStore(connection, group: group, topic: topic).places()
    checkpoints = Dictionary(grouping: places, by: \.partition)
  }

  private mutating func add(_ row: UsageReads.Stored) {
    hours.add(row)
    var key = row.key
    for minute in row.minutes {
      key.usage.minuteStart = row.start + minute.minute
      minutes[key, default: Tally()].add(
        Tally(quantity: Int128(minute.quantity), eventCount: minute.events))
    }
  }

  package static func take(
    _ connection: PostgresConnection, group: String, topic: String, range: UsageReads.Minutes
  ) throws -> StoredUsage {
    let reads = UsageReads(connection)
    return try reads.atOneSnapshot {
      var stored = StoredUsage(range: range)
      try stored.readPositions(connection, group: group, topic: topic)
      stored.deadLetters = try reads.deadLetters(group: group, topic: topic)
      let partitions = Array(stored.positions.keys)
      let offsets = OffsetStore(connection, group: group, topic: topic)
      stored.forgetful = try offsets.forgetfulPartitions()
      for row in try offsets.producers(partitions) {
        let key = ProducerKey(partition: row.partition, producer: ExactText(row.producer))
        stored.producers[key] = LedgerEntry(
          counted: row.counted, duplicates: row.duplicates, repeated: row.repeated,
          deadLettered: row.deadLettered)
      }
      stored.ledger = try reads.ledger(group: group, topic: topic)
      let hours = range.widened(to: 60)
      try reads.hours(in: hours) { row in stored.add(row) }
      // Only whole days are compared. Their hours were read if they are in the range.
      try reads.days(in: range) { row in
        let key = UsageKey(
          license: ExactText(row.license), meter: ExactText(row.meter), minuteStart: row.start)
        stored.days.rows[key] = Tally(quantity: row.quantity, eventCount: row.eventCount)
      }
      try reads.dimensions(in: range) { row in
        guard let dimension = DimensionKey.Dimension(rawValue: row.dimension) else { return }
        let key = DimensionKey(
          license: ExactText(row.license), meter: ExactText(row.meter), dayStart: row.start,
          dimension: dimension, value: ExactText(row.value))
        stored.dimensions[key] = Tally(quantity: row.quantity, eventCount: row.eventCount)
      }
      stored.disagreements = try reads.disagreements(in: hours)
      stored.quarantined = try reads.quarantined()
      return stored
    }
  }
}

extension [StoredKey: StoredUsage.Hour] {
  /// Adds a merged or waiting row, of which an hour can have several.
  mutating func add(_ row: UsageReads.Stored) {
    self[row.key, default: StoredUsage.Hour(row)].add(row)
  }
}

extension UsageReads.Stored {
  package var key: StoredKey {
    StoredKey(
      logEpoch: logEpoch, partition: partition,
      usage: UsageKey(
        license: ExactText(license), meter: ExactText(meter), minuteStart: start))
  }
  package var tally: Tally { Tally(quantity: quantity, eventCount: eventCount) }
}
