package import KafkaTransport
import Metering
package import PostgresStore
package import Recount

/// One partition, counted again from its log as far as that reaches.
package struct CountedPartition {
  package let partition: Int32
  package let logEpoch: Int32
  package let low: Int64
  package let high: Int64
  package let nextOffset: Int64
  /// The timestamp of the first record that can be read.
  package var logBegins: Int64?
  /// Why the partition could not be counted. Nil if it was.
  package var unreadable: String?

  package var events: Int64 = 0
  package var counted: Int64 = 0
  package var duplicates: Int64 = 0
  package var totals: [UsageKey: Tally] = [:]
  package var dimensionTotals: [DimensionKey: Tally] = [:]
  package var provenance: [PartitionRecount.ProvenanceKey: OffsetRange] = [:]
  package var deadLetters: [Int64: String] = [:]
  /// The ledger of the records from the checkpoint on, if there is one.
  package var ledger: [ExactText: LedgerEntry] = [:]
  /// The ledger of the records before the checkpoint.
  package var ledgerBefore: [ExactText: LedgerEntry] = [:]
  /// The checkpoint. From its offset on, the producers' sequences are known, however much of the
  /// log is gone.
  package var checkpoint: RecountCheckpoint?
  /// Events within a window after this offset may repeat events that cannot be read. Nil if none
  /// can.
  package var windowBegins: Int64?
  /// The timestamp of the earliest record that counted in each hour.
  package var earliest: [PartitionRecount.ProvenanceKey: Int64] = [:]
  /// Events that count according to the readable records but might be duplicates of unreadable
  /// ones. They are by producer if only its sequence is in doubt.
  package var doubtful: [DoubtKey: Tally] = [:]
  /// The dead letters whose requeued records counted, with the key that they counted for.
  package var requeued: [RequeuedLetter: DoubtKey] = [:]
  package var requeuedTallies: [RequeuedLetter: Tally] = [:]
  /// The dead letters that a duplicate settled.
  package var settledLetters: Set<RequeuedLetter> = []

  package struct DoubtKey: Hashable {
    package var producer: ExactText?
    package var usage: UsageKey
  }

  /// Whether past records of this partition, in this epoch or before, cannot be read any more.
  package var hasUnreadablePast: Bool {
    low > 0 || logEpoch > 1 || unreadable != nil || hasUnreadableAncestors
  }

  /// Whether records that this partition's keys had in another partition before the topic grew are
  /// gone.
  package var hasUnreadableAncestors = false

  package init(partition: Int32, logEpoch: Int32, low: Int64, high: Int64, nextOffset: Int64) {
    self.partition = partition
    self.logEpoch = logEpoch
    self.low = low
    self.high = high
    self.nextOffset = nextOffset
  }

  /// Whether all ids within the window before `offset` are known.
  package func knowsWindow(at offset: Int64, _ windows: [WindowSize]) -> Bool {
    guard let windowBegins else { return true }
    let window =
      windows.filter { $0.fromOffset <= offset }.max { $0.fromOffset < $1.fromOffset }?
      .size ?? RecountSettings.defaultWindow
    return offset - windowBegins >= window
  }

  package mutating func take(_ recount: PartitionRecount) {
    totals = recount.totals
    dimensionTotals = recount.dimensionTotals
    provenance = recount.provenance
    deadLetters = recount.deadLetters
    ledger = recount.ledger
    ledgerBefore = recount.ledgerBefore ?? [:]
  }
}

/// Why the log could not be counted, in words for an operator.
package struct AuditProblem: Error, CustomStringConvertible {
  package let description: String

  init(_ description: String) { self.description = description }
}

/// Reads every partition from its low watermark to the offset that was counted up to.
package struct LogRecount {
  package let reader: LogReader
  package let topic: String
  package let stored: StoredUsage
  package let settings: RecountSettings
  package let requeues: Requeues
  package let checkpoints: AuditCheckpointStore

  package init(
    reader: LogReader, topic: String, stored: StoredUsage, settings: RecountSettings,
    requeues: Requeues, checkpoints: AuditCheckpointStore
  ) {
    self.reader = reader
    self.topic = topic
    self.stored = stored
    self.settings = settings
    self.requeues = requeues
    self.checkpoints = checkpoints
  }

  /// How many partitions are read at the same time. Each holds a window's identities and the texts
  /// of a batch in memory. Several are read together, because a fetch from the embedded broker
  /// returns a single batch of a partition.
  private static let partitionsAtOnce = 8

  /// - Parameter progress: called with the number of offsets that are done, and with the total.
  package func run(progress: (Int64, Int64) -> Void) throws -> [CountedPartition] {
    var partitions = try bounds()
    let readable = partitions.indices.filter { partitions[$0].unreadable == nil }
    let total = readable.reduce(Int64(0)) { $0 + partitions[$1].nextOffset - partitions[$1].low }
    var done: Int64 = 0
    for start in stride(from: 0, to: readable.count, by: Self.partitionsAtOnce) {
      let group = readable[start..<min(start + Self.partitionsAtOnce, readable.count)]
      try read(group.map { $0 }, of: &partitions) { progress(min(done + $0, total), total) }
      done += group.reduce(0) { $0 + partitions[$1].nextOffset - partitions[$1].low }
      progress(done, total)
    }
    doubtRequeuedTwice(&partitions)
    return partitions
  }

  // MARK: -

  private func bounds() throws -> [CountedPartition] {
    guard let count = try reader.partitionCount(topic) else {
      throw AuditProblem(
        "the topic \(topic) does not exist. Run: meterctl topics apply")
    }
    return try stored.positions.sorted { $0.key < $1.key }.map { partition, position in
      guard Int(partition) < count else {
        var missing = CountedPartition(
          partition: partition, logEpoch: position.logEpoch, low: 0, high: 0,
          nextOffset: position.nextOffset)
        missing.unreadable = "the topic has no such partition"
        return missing
      }
      let (low, high) = try reader.watermarks(TopicPartition(topic: topic, partition: partition))
      var result = CountedPartition(
        partition: partition, logEpoch: position.logEpoch, low: low, high: high,
        // The offset is negative while the beginning is not known. Nothing of the partition is
        // counted then.
        nextOffset: position.nextOffset < 0 ? low : position.nextOffset)
      if position.nextOffset < 0 {
        return result
      } else if high < position.nextOffset {
        result.unreadable =
          "the log ends at \(high), but PostgreSQL has counted up to \(position.nextOffset), so it "
          + "is not the log that was counted (remedy: meterctl topics new-epoch)"
      } else if low > position.nextOffset {
        result.unreadable =
          "the log begins at offset \(low), but PostgreSQL has only counted up to "
          + "\(position.nextOffset) (remedy: meterctl topics accept-gap)"
      }
      return result
    }
  }

  private func read(
    _ indices: [Int], of partitions: inout [CountedPartition], progress: (Int64) -> Void
  ) throws {
    var recounts: [Int32: (index: Int, recount: PartitionRecount)] = [:]
    var ranges: [LogReader.Range] = []
    for index in indices {
      let partition = partitions[index]
      let recount = try begin(&partitions[index])
      recounts[partition.partition] = (index, recount)
      ranges.append(
        LogReader.Range(
          TopicPartition(topic: topic, partition: partition.partition), from: partition.low,
          to: partition.nextOffset))
    }
    let gaps = indices.reduce(into: [:]) {
      $0[partitions[$1].partition] = stored.gaps(of: partitions[$1].partition)
    }
    let reached = try reader.readAll(ranges, progress: progress) { view in
      let record = try LogRecord(view, requeues)
      // The entry is taken out and put back, so that its dictionaries are changed in place.
      guard var entry = recounts.removeValue(forKey: record.partition) else { return }
      let index = entry.index
      let decision = entry.recount.feed(record)
      recounts[record.partition] = entry
      partitions[index].note(
        record, decision, windows: stored.windows[record.partition] ?? [],
        gaps: gaps[record.partition] ?? [])
    }
    for range in ranges {
      guard var entry = recounts.removeValue(forKey: range.partition.partition) else {
        continue
      }
      guard reached[range.partition] == range.to else {
        throw AuditProblem(
          "\(range.partition): while the log was read it ended at "
            + "\(reached[range.partition] ?? range.from), before \(range.to). Run it again")
      }
      entry.recount.reach(range.to)
      partitions[entry.index].take(entry.recount)
    }
  }

  /// Returns nil if it was removed in the meantime.
  package func checkpoint(at place: AuditCheckpointStore.Place) throws -> RecountCheckpoint? {
    try checkpoints.producers(at: place).map { producers in
      RecountCheckpoint(
        offset: place.nextOffset, producers: producers.map(RecountCheckpoint.Producer.init))
    }
  }

  /// Makes a recount with everything that is known about the time before the log's beginning.
  private func begin(_ partition: inout CountedPartition) throws -> PartitionRecount {
    let place = stored.checkpoint(of: partition.partition, low: partition.low)
    partition.checkpoint = try place.flatMap { try checkpoint(at: $0) }
    let branch = stored.branches[partition.partition]
    if partition.low > 0,
      branch != nil || place?.beginsEpoch != true || place?.nextOffset != partition.low
    {
      partition.windowBegins = partition.low
    }
    var recount = PartitionRecount(
      partition: partition.partition, settings: settings, countFrom: partition.low,
      checkpoint: partition.checkpoint)
    let unreadable = try feedAncestors(
      of: partition.partition, low: partition.low, into: &recount)
    partition.hasUnreadableAncestors = unreadable != nil
    if partition.windowBegins == nil { partition.windowBegins = unreadable }
    return recount
  }

  /// A dead letter is settled once in all partitions together. The logs do not tell which of two
  /// records settled it.
  private func doubtRequeuedTwice(_ partitions: inout [CountedPartition]) {
    var seen: [RequeuedLetter: Int] = [:]
    for partition in partitions {
      for letter in partition.requeued.keys { seen[letter, default: 0] += 1 }
      for letter in partition.settledLetters { seen[letter, default: 0] += 1 }
    }
    for index in partitions.indices {
      for (letter, key) in partitions[index].requeued where seen[letter, default: 0] > 1 {
        partitions[index].doubtful[key, default: Tally()].add(
          partitions[index].requeuedTallies[letter] ?? Tally())
      }
    }
  }
}

extension CountedPartition {
  fileprivate mutating func note(
    _ record: LogRecord, _ decision: Decision, windows: [WindowSize], gaps: [UsageReads.Gap]
  ) {
    events += 1
    if logBegins == nil { logBegins = record.timestamp }
    switch decision {
    case .report, .deadLetter: break
    case .duplicate(_, let cause):
      duplicates += 1
      if cause == .id, let letter = record.requeuedLetter { settledLetters.insert(letter) }
    case .counted(let event):
      counted += 1
      let usage = event.minuteKey
      let hour = usage.hour
      earliest[hour] = min(earliest[hour] ?? record.timestamp, record.timestamp)
      let tally = Tally(quantity: event.quantity, eventCount: 1)
      let isInGap = gaps.contains { ($0.firstOffset...$0.lastOffset).contains(record.offset) }
      let whole = DoubtKey(producer: nil, usage: usage)
      if let letter = record.requeuedLetter {
        requeued[letter] = whole
        requeuedTallies[letter] = tally
        if hasUnreadablePast || isInGap { doubtful[whole, default: Tally()].add(tally) }
        return
      }
      if isInGap || !knowsWindow(at: record.offset, windows) {
        doubtful[whole, default: Tally()].add(tally)
      } else if hasUnreadablePast, checkpoint.map({ record.offset < $0.offset }) ?? true,
        event.sequence != nil, let producer = event.producer
      {
        doubtful[DoubtKey(producer: ExactText(producer), usage: usage), default: Tally()].add(tally)
      }
    }
  }
}

extension RecountCheckpoint.Producer {
  fileprivate init(_ stored: AuditCheckpointStore.Producer) {
    self.init(
      name: ExactText(stored.producer), sequence: stored.sequence,
      deadSequence: stored.deadSequence, isForgotten: stored.isForgotten,
      entry: LedgerEntry(
        counted: stored.counted, duplicates: stored.duplicates, repeated: stored.repeated,
        deadLettered: stored.deadLettered))
  }
}
