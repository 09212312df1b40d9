import ArgumentParser
import Foundation
import KafkaTransport
import PostgresStore

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "How far everything is: lag, rate, last commit, dead letters, ledger, deliveries.",
    discussion: """
      One look takes a second, in which the rate is measured. With --watch the screen refreshes \
      until Ctrl-C; where stdout is no terminal, a snapshot is printed at each interval (with \
      --json one object a line).

      Example: meterctl status --watch --interval 5s
      """)

  @Flag(name: [.customShort("w"), .long], help: "Refresh until Ctrl-C.")
  var watch = false

  @Option(help: "Between two looks, such as 500ms or 5s.")
  var interval = Interval(milliseconds: 2_000)

  @OptionGroup var output: OutputOptions

  /// `250ms`, `2s`, `1m`.
  struct Interval: ExpressibleByArgument {
    var milliseconds: Int

    init(milliseconds: Int) { self.milliseconds = milliseconds }

    init?(argument: String) {
      for (suffix, scale) in [("ms", 1), ("s", 1_000), ("m", 60_000)]
      where argument.hasSuffix(suffix) {
        guard let count = Int(argument.dropLast(suffix.count)), count > 0, count <= 3_600_000
        else { return nil }
        milliseconds = count * scale
        return
      }
      return nil
    }

    var defaultValueDescription: String {
      milliseconds % 1_000 == 0 ? "\(milliseconds / 1_000)s" : "\(milliseconds)ms"
    }
  }

  func run() throws {
    let connection = try Connections().database("status", statementTimeoutMilliseconds: 30_000)
    let reader = try LogReader(Connections().kafka(), clientID: Connections.clientID("status"))
    var previous: StatusSnapshot?
    if !watch {
      previous = try StatusSnapshot.take(connection, nil)
      Thread.sleep(forTimeInterval: 1)
    }
    repeat {
      var snapshot = try StatusSnapshot.take(connection, reader)
      snapshot.measureRate(since: previous)
      previous = snapshot
      show(snapshot)
      if watch { Thread.sleep(forTimeInterval: Double(interval.milliseconds) / 1_000) }
    } while watch
  }

  private func show(_ snapshot: StatusSnapshot) {
    if output.json {
      print(watch ? snapshot.json.compact : snapshot.json.pretty)
    } else if watch, Terminal.outputIsTerminal {
      // Home, each line cleared behind its end, then what is left of the last screen.
      let lines = snapshot.text.split(separator: "\n", omittingEmptySubsequences: false)
      print(
        "\u{1B}[H" + lines.map { $0 + "\u{1B}[K\n" }.joined() + "\u{1B}[J", terminator: "")
    } else {
      print(snapshot.text)
    }
    // Into a pipe nothing is flushed by itself.
    fflush(nil)
  }
}

/// What one look saw.
struct StatusSnapshot {
  struct Topic {
    var name: String
    var group: String
    var partitions: Int
    var lag: Int64
    var nextOffsets: Int64
    /// Partitions whose log ends before what was counted: another log than the one remembered.
    var strange: Int
  }

  private(set) var topics: [Topic] = []
  private(set) var rate: Double?
  private var takenAt = ContinuousClock.now
  private var commitAge: Double?
  private var pendingRows: Int64 = 0
  private var deadLetters: [(reason: String, total: Int64, open: Int64)] = []
  private var ledger:
    (rows: [UsageReads.LedgerRow], total: Int64, missing: Int64, inFlight: Int64) =
      ([], 0, 0, 0)
  private var deliveries: WebhookStore.Backlog?

  static let ledgerRows = 100

  /// - Parameter reader: nil: the offsets alone, for a rate to be measured from.
  static func take(_ connection: PostgresConnection, _ reader: LogReader?) throws -> StatusSnapshot
  {
    var snapshot = StatusSnapshot()
    let reads = UsageReads(connection)
    let groups = try reads.groupOffsets()
    snapshot.takenAt = ContinuousClock.now
    snapshot.commitAge = groups.filter { $0.group == Connections.aggregatorGroup }
      .map(\.commitAgeSeconds).min()
    snapshot.topics = groups.map { group in
      Topic(
        name: group.topic, group: group.group, partitions: group.next.count, lag: 0,
        nextOffsets: group.next.values.reduce(0, +), strange: 0)
    }
    guard let reader else { return snapshot }
    if snapshot.topics.isEmpty {
      snapshot.topics.append(
        Topic(
          name: Connections.usageTopic, group: Connections.aggregatorGroup, partitions: 0, lag: 0,
          nextOffsets: 0, strange: 0))
    }
    for i in snapshot.topics.indices {
      try snapshot.topics[i].lookAtLog(reader, i < groups.count ? groups[i].next : [:])
    }
    snapshot.pendingRows = try reads.pendingRows()
    snapshot.deadLetters = try DeadLetterStore(connection).counts()
    snapshot.ledger = try reads.ledgerRows(limit: ledgerRows)
    snapshot.deliveries = try WebhookStore(connection).backlog()
    return snapshot
  }

  mutating func measureRate(since earlier: StatusSnapshot?) {
    guard let earlier else { return }
    let seconds = earlier.takenAt.duration(to: takenAt) / .seconds(1)
    func sum(_ snapshot: StatusSnapshot) -> Int64 {
      // Every group reads the same records: counted is what the aggregator's has.
      snapshot.topics.filter { $0.group == Connections.aggregatorGroup }
        .reduce(0) { $0 + $1.nextOffsets }
    }
    // Less than before: a new epoch began in between.
    rate = seconds > 0 ? Double(max(0, sum(self) - sum(earlier))) / seconds : nil
  }

  var json: JSON {
    [
      "topics": .array(
        topics.map {
          [
            "topic": .text($0.name), "consumer_group": .text($0.group),
            "partitions": .int($0.partitions), "lag": .integer($0.lag),
            "next_offsets_sum": .integer($0.nextOffsets),
            "partitions_of_another_log": .int($0.strange),
          ]
        }),
      "rate_per_second": rate.map { .number(($0 * 10).rounded() / 10) } ?? .null,
      "last_commit_seconds": commitAge.map { .number(($0 * 1000).rounded() / 1000) } ?? .null,
      "pending_rows": .integer(pendingRows),
      "dead_letters": [
        "total": .integer(deadLetters.reduce(0) { $0 + $1.total }),
        "open": .integer(deadLetters.reduce(0) { $0 + $1.open }),
        "by_reason": .object(deadLetters.map { ($0.reason, .integer($0.total)) }),
      ],
      "ledger": .array(ledger.rows.map(\.json)),
      "ledger_total": .integer(ledger.total),
      "missing": .integer(ledger.missing), "in_flight": .integer(ledger.inFlight),
      "deliveries": deliveries?.json ?? .null,
    ]
  }

  var text: String {
    var lines = [
      Terminal.table(
        ["topic", "group", "partitions", "lag", "counted up to (sum)"],
        topics.map {
          [
            $0.name, $0.group, "\($0.partitions)", Terminal.grouped($0.lag),
            Terminal.grouped($0.nextOffsets),
          ]
        }, right: [2, 3, 4]),
      "",
      "rate          " + (rate.map { "\(Terminal.grouped(Int64($0.rounded()))) records/s" } ?? "-"),
      "last commit   "
        + (commitAge.map { "\(($0 * 10).rounded() / 10) s ago" } ?? "none: start usage-aggregator"),
      "to be merged  \(Terminal.grouped(pendingRows)) rows",
    ]
    for topic in topics where topic.strange > 0 {
      lines.append(
        "\(topic.name): \(topic.strange) partitions end before what was counted; "
          + "not the log that was counted: meterctl topics new-epoch")
    }
    let total = deadLetters.reduce(0) { $0 + $1.total }
    let reasons = deadLetters.map { "\($0.reason) \(Terminal.grouped($0.total))" }
    lines.append(
      "dead letters  \(Terminal.grouped(total))"
        + (reasons.isEmpty ? "" : ": " + reasons.joined(separator: ", ")))
    lines.append(
      "ledger        \(Terminal.grouped(ledger.total)) producers, missing "
        + "\(Terminal.grouped(ledger.missing)), in flight \(Terminal.grouped(ledger.inFlight))")
    if let deliveries { lines.append("deliveries    \(deliveries.text)") }
    let shown = ledger.rows.prefix(10)
    if !shown.isEmpty {
      func number(_ value: Int64?) -> String { value.map { Terminal.grouped($0) } ?? "-" }
      lines += [
        "",
        Terminal.table(
          ["producer", "accepted", "counted", "dead", "in flight", "missing", "last report"],
          shown.map {
            [
              Terminal.printable($0.producer), number($0.accepted), number($0.counted),
              number($0.deadLettered), number($0.inFlight), number($0.missing),
              $0.lastReport ?? "-",
            ]
          }, right: [1, 2, 3, 4, 5]),
      ]
    }
    return lines.joined(separator: "\n")
  }
}

extension StatusSnapshot.Topic {
  fileprivate mutating func lookAtLog(_ reader: LogReader, _ next: [Int32: Int64]) throws {
    guard let count = try reader.partitionCount(name) else {
      throw Failure(
        "the topic \(name) is not there; see METER_KAFKA_BROKERS and: meterctl topics diff")
    }
    partitions = count
    for partition in 0..<Int32(count) {
      let (low, high) = try reader.watermarks(TopicPartition(topic: name, partition: partition))
      // Without a row, counting begins at the low watermark.
      let position = next[partition] ?? low
      if high < position { strange += 1 }
      lag += max(0, high - position)
    }
  }
}

extension UsageReads.LedgerRow {
  fileprivate var json: JSON {
    [
      "consumer_group": .text(group), "topic": .text(topic), "producer": .text(producer),
      "accepted": .optional(accepted), "pending": .optional(pending),
      "dropped": .optional(dropped), "counted": .integer(counted),
      "duplicates": .integer(duplicates), "dead_lettered": .integer(deadLettered),
      "in_flight": .optional(inFlight), "missing": .optional(missing),
      "last_report_at": .optional(lastReport),
    ]
  }
}

extension WebhookStore.Backlog {
  fileprivate var json: JSON {
    [
      "pending": .integer(pending),
      "oldest_due_seconds": .number((oldestDueSeconds * 1_000).rounded() / 1_000),
      "endpoints": [
        "closed": .integer(closed), "failing": .integer(failing), "open": .integer(open),
        "disabled": .integer(disabled),
      ],
    ]
  }

  fileprivate var text: String {
    var text = "\(Terminal.grouped(pending)) pending"
    if oldestDueSeconds >= 1 { text += ", due for \(Int(oldestDueSeconds)) s: webhook-dispatcher?" }
    let endpoints = [
      ("well", closed), ("failing", failing), ("paused", open), ("disabled", disabled),
    ]
    let named = endpoints.filter { $0.1 > 0 }.map { "\(Terminal.grouped($0.1)) \($0.0)" }
    return text + "; endpoints: " + (named.isEmpty ? "none" : named.joined(separator: ", "))
  }
}
