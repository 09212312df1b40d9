import KafkaTransport
import Metering
import PostgresStore
import Recount

/// An hour or minute of a license and meter, counted from one partition in one epoch of the log.
struct StoredKey: Hashable {
  var logEpoch: Int32
  var partition: Int32
  var usage: UsageKey
}

/// What PostgreSQL says at one snapshot: all that reconcile compares, and what it needs to judge the log.
struct StoredUsage {
  struct Hour {
    var tally: Tally
    var firstOffset: Int64
    var lastOffset: Int64
  }

  struct Position {
    var nextOffset: Int64
    var logEpoch: Int32
  }

  struct ProducerKey: Hashable {
    var partition: Int32
    var producer: ExactText
  }

  var range: UsageReads.Minutes
  /// Of the snapshot, in milliseconds since 1970.
  var takenAt: Int64 = 0
  var positions: [Int32: Position] = [:]
  var windows: [Int32: [WindowSize]] = [:]
  var importBatches: [ExactText: Int64] = [:]
  var gaps: [UsageReads.Gap] = []
  /// Where partitions of a grown topic begin.
  var branches: [Int32: GrowthStore.Branch] = [:]
  /// Where it is known what the producers' sequences were, ascending.
  var checkpoints: [Int32: [AuditCheckpointStore.Place]] = [:]
  var deadLetters: [UsageReads.DeadLetterPlace] = []
  var producers: [ProducerKey: LedgerEntry] = [:]
  /// Partitions that gave up producers of which no report was known.
  var forgetful: Set<Int32> = []
  var ledger: [UsageReads.LedgerSum] = []
  /// All hours that touch the range.
  var hours: [StoredKey: Hour] = [:]
  var minutes: [StoredKey: Tally] = [:]
  var days = Totals(window: .day)
  var dimensions: [DimensionKey: Tally] = [:]
  var disagreements: [UsageReads.Disagreement] = []
  var quarantined: [(license: String, rows: Int64)] = []

  /// What was too old when it was counted: registering its import batch afterwards changes nothing.
  var refusedForAge: Set<LogPosition> {
    Set(
      deadLetters.filter {
        $0.reason == "too_old" && $0.logEpoch == positions[$0.partition]?.logEpoch
      }
      .map { LogPosition(partition: $0.partition, offset: $0.offset) })
  }

  init(range: UsageReads.Minutes) {
    self.range = range
  }

  /// Gaps of a partition's epoch that is being read.
  func gaps(of partition: Int32) -> [UsageReads.Gap] {
    gaps.filter { $0.partition == partition && $0.logEpoch == positions[partition]?.logEpoch }
  }

  /// The first checkpoint from which a log that begins at `low` can be recounted.
  func checkpoint(of partition: Int32, low: Int64) -> AuditCheckpointStore.Place? {
    guard let position = positions[partition] else { return nil }
    return checkpoints[partition]?.first {
      $0.logEpoch == position.logEpoch && $0.nextOffset >= low
        && $0.nextOffset <= position.nextOffset
    }
  }

  /// The last checkpoint before `offset` that a log which begins at `low` still reaches; else the first one behind it.
  func checkpoint(
    of partition: Int32, low: Int64, before offset: Int64
  ) -> AuditCheckpointStore.Place? {
    checkpoints[partition]?.last { $0.nextOffset >= low && $0.nextOffset <= offset }
      ?? checkpoint(of: partition, low: low)
  }

  /// Where the log is read and how it is judged; part of a snapshot.
  mutating func readPositions(
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

  static func take(
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
      try reads.hours(in: hours) { row in
        stored.hours[row.key] = Hour(
          tally: row.tally, firstOffset: row.firstOffset, lastOffset: row.lastOffset)
      }
      try reads.minutes(in: hours) { row in stored.minutes[row.key] = row.tally }
      // Whole days only are compared; their hours were read where the range holds them.
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

extension UsageReads.Stored {
  var key: StoredKey {
    StoredKey(
      logEpoch: logEpoch, partition: partition,
      usage: UsageKey(
        license: ExactText(license), meter: ExactText(meter), minuteStart: start))
  }
  var tally: Tally { Tally(quantity: quantity, eventCount: eventCount) }
}
