import ArgumentParser
import KafkaTransport
import LogAudit
import Metering
import PostgresStore
import Recount
import ServiceRuntime

/// `meterctl reconcile`: compares PostgreSQL with the log, or Stripe with what was sent there.
struct Reconcile: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare PostgreSQL with the log, or Stripe with what was exported.",
    discussion: """
      Without a subcommand it compares PostgreSQL with the log: meterctl reconcile --from \
      2026-11-01.

      Example: meterctl reconcile stripe --from 2026-11-01
      """,
    subcommands: [LogReconcile.self, StripeReconcile.self], defaultSubcommand: LogReconcile.self)
}

/// `meterctl reconcile log`: counts the log independently and compares the result with PostgreSQL.
struct LogReconcile: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log",
    abstract: "Count the log again and compare it with PostgreSQL, row by row.",
    discussion: """
      Reads PostgreSQL at one snapshot and the log of every partition up to the offsets of that \
      snapshot. Counts with separate code, and compares hours, minutes, days, dimensions, dead \
      letters and producers. The aggregator can continue meanwhile, and nothing is changed.

      Rows that the log no longer covers (because of retention, a new log epoch, or an accepted \
      gap) are `not provable`, which is never the same as equal. They must still contain \
      everything that the log has of them. The aggregator takes an audit checkpoint of each \
      partition every ten minutes. From the first checkpoint that the log still covers, every \
      number of a producer can be proved. METER_MAX_QUANTITY and METER_MAX_EVENT_AGE must be the \
      aggregator's.

      Exit status: 0 equal, or equal as far as it can be proved; 1 differences; 2 wrong usage; 3 \
      failed; 4 there is usage, but none of it could be proved.

      Example: meterctl reconcile --from 2026-11-01 --to 2026-12-01 --json
      """)

  @Option(help: "Compare rows that begin at this time or later, such as 2026-11-23T18:00:00Z.")
  var from: Moment?

  @Option(help: "Compare rows that end by this time.")
  var to: Moment?

  @Option(help: "The topic of usage events.")
  var topic = Connections.usageTopic

  @Option(help: "The consumer group that counted.")
  var group = Connections.aggregatorGroup

  @Option(help: "How many differences to list. All of them are counted.")
  var maxDifferences = 50

  @OptionGroup var output: OutputOptions

  func validate() throws {
    try AuditRange.validate(from: from, to: to)
    guard maxDifferences >= 0 else { throw ValidationError("--max-differences must be 0 or more") }
  }

  func run() throws {
    let range = AuditRange.minutes(from: from, to: to)
    var settings = try AuditRange.recountSettings()
    let connection = try Connections().database("reconcile")
    let stored = try StoredUsage.take(connection, group: group, topic: topic, range: range)
    let halts = try PartitionHaltStore(connection).halts()
      .filter { $0.group == group && $0.topic == topic }
    guard !stored.positions.isEmpty else {
      throw Failure(
        "the group \(group) has not counted anything of \(topic) yet: start usage-aggregator, or "
          + "name another group with --group and --topic")
    }
    settings.importBatches = stored.importBatches
    settings.refusedForAge = stored.refusedForAge
    let windows = stored.windows
    settings.windows = { windows[$0] ?? [] }

    let reader = try Connections().logReader("reconcile")
    let recount = LogRecount(
      reader: reader, topic: topic, stored: stored, settings: settings,
      requeues: Requeues(connection, topic: topic, stored),
      checkpoints: AuditCheckpointStore(connection, group: group, topic: topic))
    let partitions = try AuditRange.reading { try recount.run(progress: $0) }

    let report = Comparison.run(stored, partitions, maxDifferences: maxDifferences)
    output.print(
      report.json(partitions), text: report.text(partitions, topic: topic, group: group))
    // Halted partitions go to stderr, because the result judges only what was read.
    for halt in halts {
      Terminal.error(
        Terminal.printable(
          "note: partition \(halt.partition) has stood still since \(halt.since ?? "-"), and what its log "
            + "has after the stored offset is not counted: \(halt.reason)"))
    }
    switch report.status {
    case .different: throw Ending.difference
    case .nothingProved: throw Ending.nothingProved
    case .equal, .notProvable: break
    }
  }
}

/// The arguments and the environment that reconcile and explain share.
enum AuditRange {
  static func validate(from: Moment?, to: Moment?) throws {
    for (name, moment) in [("--from", from), ("--to", to)] {
      if let moment, moment.milliseconds % 60_000 != 0 {
        throw ValidationError("\(name) must be a whole minute, because usage is kept by minute")
      }
    }
    if let from, let to, from >= to { throw ValidationError("--from must be before --to") }
  }

  static func minutes(from: Moment?, to: Moment?) -> UsageReads.Minutes {
    UsageReads.Minutes(
      from: from.map { floorDivide($0.milliseconds, by: 60_000) },
      to: to.map { floorDivide($0.milliseconds, by: 60_000) })
  }

  /// The aggregator's rules, read from the same variables by the same code.
  static func recountSettings(_ settings: Settings = Settings()) throws -> RecountSettings {
    RecountSettings(
      maxQuantity: try settings.maxQuantity(),
      maxEventAgeMilliseconds: try settings.maxEventAgeMilliseconds())
  }

  /// Runs `body` with a progress bar over offsets.
  static func reading<T>(_ body: ((Int64, Int64) -> Void) throws -> T) throws -> T {
    var bar: Progress?
    var last: Int64 = 0
    defer { bar?.finish(last) }
    do {
      return try body { done, total in
        if bar == nil { bar = Progress("Reading the log", unit: "offsets", total: total) }
        last = done
        bar?.update(done)
      }
    } catch let error as KafkaError where error.isOffsetOutOfRange {
      throw Failure(
        "retention removed records while the log was read; run the command again")
    }
  }
}
