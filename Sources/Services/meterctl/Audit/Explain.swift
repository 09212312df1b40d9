import ArgumentParser
import KafkaTransport
import Metering
import PostgresStore
import Recount

struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the events behind a number, read back from the log.",
    discussion: """
      Finds in usage_provenance where in the log a license's events of the asked time lie, reads \
      that stretch back (with the dedupe window before and behind it, so that duplicates are \
      judged and shown), and prints each event with its verdict. The sum is compared with what \
      the views say. Times are the events' own, from (inclusive) to (exclusive).

      Exit status: 0 equal, or the log no longer reaches; 1 another sum; 2 wrong usage; 3 failed.

      Example: meterctl explain --license lic_abc123 --from 2026-11-23T18:00:00Z --to \
      2026-11-23T19:00:00Z --meter api_calls
      """)

  @Option(help: "The license.")
  var license: String

  @Option(help: "From this time of the events, such as 2026-11-23T18:00:00Z.")
  var from: Moment

  @Option(help: "Up to this time, which is not part of it.")
  var to: Moment

  @Option(help: "This meter only.")
  var meter: String?

  @Option(help: "Print so many events at most; the sums are of all.")
  var limit: Int?

  @Option(help: "The topic of usage events.")
  var topic = Connections.usageTopic

  @Option(help: "The consumer group that counted.")
  var group = Connections.aggregatorGroup

  @OptionGroup var output: OutputOptions

  func validate() throws {
    try AuditRange.validate(from: from, to: to)
    if let limit, limit < 0 { throw ValidationError("--limit: 0 or more") }
  }

  func run() throws {
    let range = AuditRange.minutes(from: from, to: to)
    let connection = try Connections().database("explain")
    var explained = try Explained.take(
      connection, group: group, topic: topic, license: license, meter: meter, range: range)
    var settings = try AuditRange.recountSettings()
    settings.importBatches = explained.stored.importBatches
    settings.refusedForAge = explained.stored.refusedForAge
    let windows = explained.stored.windows
    settings.windows = { windows[$0] ?? [] }
    let recount = LogRecount(
      reader: try Connections().logReader("explain"), topic: topic, stored: explained.stored,
      settings: settings, requeues: Requeues(connection, topic: topic, explained.stored),
      checkpoints: AuditCheckpointStore(connection, group: group, topic: topic))

    try AuditRange.reading { progress in
      try explained.read(recount, knowsSequences: false, progress: progress)
      // A producer's sequence is remembered for good: what repeats from before the window is told apart from a
      // checkpoint on, or only by all that can be read.
      if explained.status == .different, explained.couldReadMore {
        try explained.read(recount, knowsSequences: true, progress: progress)
      }
    }
    output.print(explained.json(limit: limit), text: explained.text(limit: limit))
    if explained.status == .different { throw Ending.difference }
  }
}

/// A license's events of a time, and what PostgreSQL says of them.
struct Explained {
  struct Line {
    var partition: Int32
    var offset: Int64
    var recordTime: Int64
    var event: UsageEvent
    var duplicate: Decision.Cause?
  }

  let topic: String
  let license: String
  let meter: String?
  let range: UsageReads.Minutes
  var stored: StoredUsage
  /// Rows of the hours touched, by place.
  private var hours: [UsageReads.Stored] = []
  /// What the views say, by meter.
  private var view: [ExactText: Tally] = [:]

  private(set) var lines: [Line] = []
  private(set) var counted: [ExactText: Tally] = [:]
  /// Why not all could be read back.
  private(set) var notProvable: [String] = []
  private(set) var couldReadMore = false

  static func take(
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
        result.hours.append($0)
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

  var status: ReconcileReport.Status {
    let meters = Set(view.keys).union(counted.keys)
    let isEqual = meters.allSatisfy { view[$0] ?? Tally() == counted[$0] ?? Tally() }
    if !notProvable.isEmpty { return .notProvable }
    return isEqual ? .equal : .different
  }

  // MARK: Reading

  private struct Stretch {
    var range: LogReader.Range
    var checkpoint: AuditCheckpointStore.Place?
    /// Nothing before this offset matters; nil: all of it does.
    var windowBegins: Int64?
  }

  /// - Parameter knowsSequences: from a checkpoint or the log's beginning, not only from a window before.
  mutating func read(
    _ source: LogRecount, knowsSequences: Bool, progress: (Int64, Int64) -> Void
  ) throws {
    lines = []
    counted = [:]
    notProvable = []
    couldReadMore = false
    let stretches = try stretches(source.reader, knowsSequences: knowsSequences)
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
    let ranges = stretches.map(\.range)
    let total = ranges.reduce(Int64(0)) { $0 + $1.to - $1.from }
    try source.reader.readAll(ranges, progress: { progress(min($0, total), total) }) { view in
      let record = try LogRecord(view, source.requeues)
      guard var recount = recounts.removeValue(forKey: record.partition) else { return }
      let decision = recount.feed(record)
      recounts[record.partition] = recount
      note(record, decision)
    }
    lines.sort { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
  }

  private mutating func stretches(
    _ reader: LogReader, knowsSequences: Bool
  ) throws -> [Stretch] {
    var wanted: [Int32: (first: Int64, last: Int64)] = [:]
    for hour in hours {
      guard let position = stored.positions[hour.partition], position.logEpoch == hour.logEpoch
      else {
        notProvable.append(
          "\(hour.eventCount) events of the hour \(Moment(milliseconds: hour.start * 60_000)) were "
            + "counted from an earlier log, epoch \(hour.logEpoch)")
        continue
      }
      let known = wanted[hour.partition] ?? (hour.firstOffset, hour.lastOffset)
      wanted[hour.partition] = (
        min(known.first, hour.firstOffset), max(known.last, hour.lastOffset)
      )
    }
    return try wanted.sorted { $0.key < $1.key }.compactMap { partition, offsets in
      let place = TopicPartition(topic: topic, partition: partition)
      let (low, high) = try reader.watermarks(place)
      let next = stored.positions[partition]?.nextOffset ?? 0
      guard offsets.last < high, low <= offsets.last else {
        notProvable.append(
          "\(place): the log reaches from offset \(low) to \(high), the events lie at "
            + "\(offsets.first) to \(offsets.last)")
        return nil
      }
      if offsets.first < low {
        notProvable.append(
          "\(place): the log begins at offset \(low), the events at \(offsets.first)")
      }
      let window =
        stored.windows[partition]?.map(\.size).max() ?? RecountSettings.defaultWindow
      let begins = offsets.first - window
      let checkpoint =
        knowsSequences
        ? stored.checkpoint(of: partition, low: low, before: offsets.first) : nil
      let from =
        if knowsSequences { max(low, min(begins, checkpoint?.nextOffset ?? low)) } else {
          max(low, begins)
        }
      couldReadMore = couldReadMore || !knowsSequences
      if offsets.first - window < low, low > 0, offsets.first >= low {
        notProvable.append(
          "\(place): the log begins at offset \(low): what repeats events from before it is not "
            + "told apart")
      }
      // What repeats these events lies behind them, seldom far.
      let to = min(next, high, offsets.last + window)
      return Stretch(
        range: .init(place, from: from, to: max(to, offsets.last + 1)), checkpoint: checkpoint,
        windowBegins: knowsSequences && checkpoint == nil ? nil : begins)
    }
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
    lines.append(
      Line(
        partition: record.partition, offset: record.offset, recordTime: record.timestamp,
        event: event, duplicate: duplicate))
  }

  // MARK: Showing

  private var meters: [ExactText] { Set(view.keys).union(counted.keys).sorted() }

  func json(limit: Int?) -> JSON {
    let shown = lines.prefix(limit ?? lines.count)
    let sums: [JSON] = meters.map { meter in
      [
        "meter": .text(meter.string), "log": .tally(counted[meter] ?? Tally()),
        "postgresql": .tally(view[meter] ?? Tally()),
      ]
    }
    return [
      "status": .text(status.rawValue), "license_id": .text(license),
      "from": .optional(minute: range.from), "to": .optional(minute: range.to),
      "events": .array(shown.map(Self.json)), "events_found": .int(lines.count),
      "duplicates": .int(lines.count { $0.duplicate != nil }), "sums": .array(sums),
      "not_provable": .array(notProvable.map { .text($0) }),
    ]
  }

  private static func json(_ line: Line) -> JSON {
    [
      "partition": .int(line.partition), "log_offset": .integer(line.offset),
      "record_time": .optional(milliseconds: line.recordTime < 0 ? nil : line.recordTime),
      "time": .text(Moment(milliseconds: line.event.timeMilliseconds).description),
      "id": .text(line.event.id), "source": .text(line.event.source),
      "producer": .optional(line.event.producer), "sequence": .optional(line.event.sequence),
      "meter": .text(line.event.meter), "quantity": .integer(line.event.quantity),
      "domain": .optional(line.event.domain), "feature": .optional(line.event.feature),
      "counted": .boolean(line.duplicate == nil),
      "duplicate": .optional(line.duplicate?.rawValue),
    ]
  }

  func text(limit: Int?) -> String {
    let shown = lines.prefix(limit ?? lines.count)
    let rows = shown.map { line in
      [
        "\(line.partition)", "\(line.offset)",
        line.recordTime < 0 ? "-" : Moment(milliseconds: line.recordTime).description,
        Moment(milliseconds: line.event.timeMilliseconds).description, line.event.id,
        line.event.source, line.event.meter, "\(line.event.quantity)",
        line.event.domain ?? "-", line.event.feature ?? "-",
        line.duplicate.map { "duplicate (\($0.rawValue))" } ?? "counted",
      ]
    }
    var text: [String] = []
    if !rows.isEmpty {
      text.append(
        Terminal.table(
          [
            "partition", "offset", "record time", "event time", "id", "source", "meter",
            "quantity", "domain", "feature", "verdict",
          ], rows, right: [0, 1, 7]))
    }
    if lines.count > shown.count {
      text.append("… and \(lines.count - shown.count) more (--limit)")
    }
    if !text.isEmpty { text.append("") }
    text += meters.map { meter in
      let (log, sum) = (counted[meter] ?? Tally(), view[meter] ?? Tally())
      let same = log == sum ? "the same" : "\(sum.quantity) in \(sum.eventCount) events"
      return
        "\(Terminal.printable(meter.string)): \(log.quantity) in \(log.eventCount) events of the log; PostgreSQL: \(same)"
    }
    if meters.isEmpty {
      text.append(
        "No events of \(Terminal.printable(license)) in this time, in PostgreSQL or its part of the log."
      )
    }
    text += notProvable.map { "not provable: \($0)" }
    switch status {
    case .equal: break
    case .notProvable, .nothingProved:
      text.append("Not all of it is in the log any more.")
    case .different: text.append("DIFFERENT: run meterctl reconcile.")
    }
    return text.joined(separator: "\n")
  }
}
