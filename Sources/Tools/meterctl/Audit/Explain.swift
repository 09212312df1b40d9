import ArgumentParser
import LogAudit
import Metering
import PostgresStore
import Recount

struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the events behind a number, read back from the log.",
    discussion: """
      Looks up in usage_provenance where the events of a license and a time range are in the log. \
      It reads that part again, with the dedupe window around it so that duplicates are recognized \
      and shown, and prints each event with its verdict. The sum is compared with the views. Times \
      are the events' own, from (inclusive) to (exclusive).

      Exit status: 0 equal, or the log no longer reaches back far enough; 1 another sum; 2 wrong \
      usage; 3 failed.

      Example: meterctl explain --license lic_abc123 --from 2026-11-23T18:00:00Z --to \
      2026-11-23T19:00:00Z --meter api_calls
      """)

  @Option(help: "The license.")
  var license: String

  @Option(help: "The earliest time of the events, such as 2026-11-23T18:00:00Z.")
  var from: Moment

  @Option(help: "The end of the time range, which is not included.")
  var to: Moment

  @Option(help: "Only this meter.")
  var meter: String?

  @Option(help: "Print at most this many events. The sums include all.")
  var limit: Int?

  @Option(help: "The topic of usage events.")
  var topic = Connections.usageTopic

  @Option(help: "The consumer group that counted.")
  var group = Connections.aggregatorGroup

  @OptionGroup var output: OutputOptions

  func validate() throws {
    try AuditRange.validate(from: from, to: to)
    if let limit, limit < 0 { throw ValidationError("--limit must be 0 or more") }
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
      // A producer's sequence is remembered for ever. Events that repeat some from before the
      // window are recognized only from a checkpoint on, or by reading everything.
      if explained.status == .different, explained.couldReadMore {
        try explained.read(recount, knowsSequences: true, progress: progress)
      }
    }
    output.print(explained.json(limit: limit), text: explained.text(limit: limit))
    if explained.status == .different { throw Ending.difference }
  }
}

extension Explained {
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
      "not_provable": .array(notProvable.map { .text($0.description) }),
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
      "traceparent": .optional(line.event.traceparent),
      "counted": .boolean(line.duplicate == nil),
      "duplicate": .optional(line.duplicate?.rawValue),
    ]
  }

  func text(limit: Int?) -> String {
    let shown = lines.prefix(limit ?? lines.count)
    let isTraced = shown.contains { $0.event.traceparent != nil }
    let rows = shown.map { line in
      [
        "\(line.partition)", "\(line.offset)",
        line.recordTime < 0 ? "-" : Moment(milliseconds: line.recordTime).description,
        Moment(milliseconds: line.event.timeMilliseconds).description, line.event.id,
        line.event.source, line.event.meter, "\(line.event.quantity)",
        line.event.domain ?? "-", line.event.feature ?? "-",
        line.duplicate.map { "duplicate (\($0.rawValue))" } ?? "counted",
      ] + (isTraced ? [line.event.traceparent ?? "-"] : [])
    }
    var text: [String] = []
    if !rows.isEmpty {
      text.append(
        Terminal.table(
          [
            "partition", "offset", "record time", "event time", "id", "source", "meter",
            "quantity", "domain", "feature", "verdict",
          ] + (isTraced ? ["traceparent"] : []), rows, right: [0, 1, 7]))
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
        "No events of \(Terminal.printable(license)) in this time, neither in PostgreSQL nor in its part of the log."
      )
    }
    text += notProvable.map { "not provable: \($0)" }
    switch status {
    case .equal: break
    case .notProvable:
      text.append("The log no longer has all of it.")
    case .different: text.append("DIFFERENT: run meterctl reconcile.")
    }
    return text.joined(separator: "\n")
  }
}
