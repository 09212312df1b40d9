import KafkaTransport
import Metering
package import PostgresStore
package import Recount

/// A license's events in a range of time, compared with PostgreSQL's numbers.
package struct Explained {
  package struct Line: Sendable {
    package var partition: Int32
    package var logEpoch: Int32
    package var offset: Int64
    /// The record's timestamp in milliseconds since 1970. It is negative if the record has none.
    package var recordTime: Int64
    package var event: UsageEvent
    package var duplicate: Decision.Cause?
  }

  package enum Status: String, Sendable {
    case equal, different
    /// Not all events can be read back.
    case notProvable = "not_provable"
  }

  /// Why not all events could be read back.
  package struct Gap: Sendable, CustomStringConvertible {
    package let description: String
    /// Whether events are lost. Otherwise they exist, and only repetitions of earlier events cannot
    /// be told apart.
    package let isLoss: Bool
  }

  /// Bounds on the cost of one reading.
  package struct Bounds: Sendable {
    /// How many offsets of all partitions may be read. Nil for no bound.
    package var offsets: Int64?
    /// How many lines of each partition are kept.
    package var lines: Int?
    /// Only lines after this place are kept.
    package var after: (partition: Int32, offset: Int64)?
    /// When the reading is given up.
    package var deadline: ContinuousClock.Instant?

    package init() {}
  }

  /// A reading would go beyond its bounds.
  package enum Beyond: Error, Sendable {
    /// The ranges have this many offsets.
    case offsets(Int64)
    case time
  }

  package let topic: String
  package let license: String
  package let meter: String?
  package let range: UsageReads.Minutes
  package private(set) var stored: StoredUsage
  package var bounds = Bounds()
  /// The hours that the range touches, by place.
  private var hours: [StoredKey: StoredUsage.Hour] = [:]
  /// The numbers of the views, by meter.
  package private(set) var view: [ExactText: Tally] = [:]

  package private(set) var lines: [Line] = []
  private var linesOfPartition: [Int32: Int] = [:]
  package private(set) var counted: [ExactText: Tally] = [:]
  package private(set) var notProvable: [Gap] = []
  package private(set) var couldReadMore = false
  /// The partitions in which the events lie, each with the beginning of its log.
  package private(set) var lows: [Int32: Int64] = [:]

  package static func take(
    _ connection: PostgresConnection, group: String, topic: String, license: String,
    meter: String?, range: UsageReads.Minutes
  ) throws -> Explained {
    let reads = UsageReads(connection)
    return try reads.atOneSnapshot {
      var result = Explained(
        topic: topic, license: license, meter: meter, range: range,
        stored: StoredUsage(range: range))
      try result.stored.readPositions(connection, group: group, topic: topic)
      try reads.hours(in: range.widened(to: 60), license: license, meter: meter) {
        result.hours.add($0)
      }
      for sum in try reads.viewSums(license: license, meter: meter, in: range) {
        result.view[ExactText(sum.meter)] = Tally(
          quantity: sum.quantity, eventCount: sum.eventCount)
      }
      return result
    }
  }

  private init(
    topic: String, license: String, meter: String?, range: UsageReads.Minutes, stored: StoredUsage
  ) {
    self.topic = topic
    self.license = license
    self.meter = meter
    self.range = range
    self.stored = stored
  }

  package var status: Status {
    let meters = Set(view.keys).union(counted.keys)
    let isEqual = meters.allSatisfy { view[$0] ?? Tally() == counted[$0] ?? Tally() }
    if !notProvable.isEmpty { return .notProvable }
    return isEqual ? .equal : .different
  }

  // MARK: Reading

  private struct Stretch {
    var range: LogReader.Range
    var checkpoint: AuditCheckpointStore.Place?
    /// Nothing before this offset matters. Nil if everything does.
    var windowBegins: Int64?
  }

  /// - Parameter knowsSequences: whether to read from a checkpoint or the log's beginning, and not
  ///   only from a window before the events.
  /// - Throws: `Beyond` if it would cost more than `bounds` allow.
  package mutating func read(
    _ source: LogRecount, knowsSequences: Bool, progress: (Int64, Int64) -> Void
  ) throws {
    lines = []
    linesOfPartition = [:]
    counted = [:]
    notProvable = []
    couldReadMore = false
    let stretches = try stretches(source.reader, knowsSequences: knowsSequences)
    let ranges = stretches.map(\.range)
    let total = ranges.reduce(Int64(0)) { $0 + $1.to - $1.from }
    if let most = bounds.offsets, total > most { throw Beyond.offsets(total) }
    var recounts: [Int32: PartitionRecount] = [:]
    for stretch in stretches {
      let partition = stretch.range.partition.partition
      var recount = PartitionRecount(
        partition: partition, settings: source.settings, countFrom: stretch.range.from,
        checkpoint: try stretch.checkpoint.flatMap { try source.checkpoint(at: $0) })
      if let branch = stored.branches[partition],
        stretch.windowBegins.map({ $0 < branch.firstOffset }) ?? true
      {
        _ = try source.feedAncestors(
          of: partition, low: stretch.range.from, since: stretch.windowBegins, into: &recount)
      }
      recounts[partition] = recount
    }
    try source.reader.readAll(ranges, progress: { progress(min($0, total), total) }) { view in
      if let deadline = bounds.deadline, view.offset % 256 == 0, ContinuousClock.now > deadline {
        throw Beyond.time
      }
      let record = try LogRecord(view, source.requeues)
      guard var recount = recounts.removeValue(forKey: record.partition) else { return }
      let decision = recount.feed(record)
      recounts[record.partition] = recount
      note(record, decision)
    }
    lines.sort { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
  }

  private static func time(_ minute: Int64) -> String {
    UTCTime.brief(minute * 60_000)
  }

  private mutating func stretches(
    _ reader: LogReader, knowsSequences: Bool
  ) throws -> [Stretch] {
    var wanted: [Int32: (first: Int64, last: Int64)] = [:]
    for (key, hour) in hours.sorted(by: { $0.key.usage.minuteStart < $1.key.usage.minuteStart }) {
      guard let position = stored.positions[key.partition], position.logEpoch == key.logEpoch
      else {
        notProvable.append(
          Gap(
            description: "\(hour.tally.eventCount) events of the hour "
              + "\(Self.time(key.usage.minuteStart)) were counted from an earlier log, epoch "
              + "\(key.logEpoch)", isLoss: true))
        continue
      }
      let known = wanted[key.partition] ?? (hour.firstOffset, hour.lastOffset)
      wanted[key.partition] = (
        min(known.first, hour.firstOffset), max(known.last, hour.lastOffset)
      )
    }
    return try wanted.sorted { $0.key < $1.key }.compactMap { partition, offsets in
      try stretch(partition, offsets, reader, knowsSequences: knowsSequences)
    }
  }

  private mutating func stretch(
    _ partition: Int32, _ offsets: (first: Int64, last: Int64), _ reader: LogReader,
    knowsSequences: Bool
  ) throws -> Stretch? {
    let place = TopicPartition(topic: topic, partition: partition)
    let (low, high) = try reader.watermarks(place)
    lows[partition] = low
    let next = stored.positions[partition]?.nextOffset ?? 0
    guard offsets.last < high, low <= offsets.last else {
      notProvable.append(
        Gap(
          description:
            "\(place): the log reaches from offset \(low) to \(high), but the events lie "
            + "at \(offsets.first) to \(offsets.last)", isLoss: true))
      return nil
    }
    if offsets.first < low {
      notProvable.append(
        Gap(
          description: "\(place): the log begins at offset \(low), but the events begin at "
            + "\(offsets.first)", isLoss: true))
    }
    let window = stored.windows[partition]?.map(\.size).max() ?? RecountSettings.defaultWindow
    let begins = offsets.first - window
    let checkpoint =
      knowsSequences ? stored.checkpoint(of: partition, low: low, before: offsets.first) : nil
    let from =
      knowsSequences
      ? max(low, min(begins, checkpoint?.nextOffset ?? low)) : max(low, begins)
    couldReadMore = couldReadMore || !knowsSequences
    if begins < low, low > 0, offsets.first >= low {
      notProvable.append(
        Gap(
          description: "\(place): the log begins at offset \(low), so repetitions of earlier "
            + "events cannot be told apart", isLoss: false))
    }
    // Repetitions of these events come after them, and rarely far after.
    let to = min(next, high, offsets.last + window)
    return Stretch(
      range: .init(place, from: from, to: max(to, offsets.last + 1)), checkpoint: checkpoint,
      windowBegins: knowsSequences && checkpoint == nil ? nil : begins)
  }

  private mutating func note(_ record: LogRecord, _ decision: Decision) {
    let event: UsageEvent
    var duplicate: Decision.Cause?
    switch decision {
    case .counted(let it): event = it
    case .duplicate(let it, let cause): (event, duplicate) = (it, cause)
    case .deadLetter, .report: return
    }
    guard event.minuteKey.license == ExactText(license),
      meter.map({ ExactText($0) == event.minuteKey.meter }) ?? true,
      range.contains(event.minuteKey.minuteStart, length: 1)
    else { return }
    if duplicate == nil {
      counted[event.minuteKey.meter, default: Tally()].add(
        Tally(quantity: event.quantity, eventCount: 1))
    }
    if let after = bounds.after,
      (record.partition, record.offset) <= (after.partition, after.offset)
    {
      return
    }
    let kept = linesOfPartition[record.partition, default: 0]
    if let most = bounds.lines, kept >= most { return }
    linesOfPartition[record.partition] = kept + 1
    lines.append(
      Line(
        partition: record.partition, logEpoch: stored.positions[record.partition]?.logEpoch ?? 0,
        offset: record.offset, recordTime: record.timestamp, event: event, duplicate: duplicate))
  }
}
