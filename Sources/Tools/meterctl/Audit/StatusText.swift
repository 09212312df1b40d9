import Foundation
import PostgresStore

extension StatusSnapshot {
  var json: JSON {
    [
      "at": .text(takenAt.description),
      "problems": .array(problems.map { .text($0) }),
      "halted_partitions": .array(halts.map(\.json)),
      "kafka": .optional(kafkaProblem),
      "topics": .array(
        topics.map {
          [
            "topic": .text($0.name), "consumer_group": .text($0.group),
            "partitions": .int($0.partitions ?? $0.next.count),
            "lag": $0.partitions == nil ? .null : .integer($0.lag),
            "next_offsets_sum": .integer($0.nextOffsets),
            "partitions_of_another_log": .int($0.strange),
            "partitions_without_an_answer": .int($0.silent),
            "partitions_never_counted": .int($0.uncounted),
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
      "quarantined_licenses": .int(quarantined),
      "deliveries": deliveries?.json ?? .null,
    ]
  }

  /// The problems, followed by the state.
  ///
  /// - Parameter tableColumns: the width of tables; nil for the screen's width.
  func lines(_ screen: Screen, tableColumns: Int? = nil) -> [Screen.Line] {
    var tables = screen
    tables.columns = tableColumns ?? screen.columns
    let problems = problems
    var lines = [Screen.Line("License Metering  \(takenAt)", .bold)]
    // The remedy is at the end of a problem and must not be cut off.
    lines += problems.flatMap { screen.wrap("WRONG  " + $0, indent: 7, .red) }
    if problems.isEmpty { lines.append(Screen.Line("nothing is wrong", .green)) }
    lines.append(Screen.Line(""))
    lines += tables.table(
      ["topic", "group", "partitions", "lag", "counted up to (sum)"],
      topics.map {
        [
          Terminal.printable($0.name), Terminal.printable($0.group),
          "\($0.partitions ?? $0.next.count)",
          $0.partitions == nil ? "?" : Terminal.grouped($0.lag), Terminal.grouped($0.nextOffsets),
        ]
      }, right: [2, 3, 4], optional: [4, 2])
    lines += facts.map { Screen.Line($0) }
    lines += ledgerLines(tables)
    return lines
  }

  private var facts: [String] {
    let total = deadLetters.reduce(0) { $0 + $1.total }
    let reasons = deadLetters.map { "\($0.reason) \(Terminal.grouped($0.total))" }
    var lines = [
      "",
      "rate          " + (rate.map { "\(Terminal.grouped(Int64($0.rounded()))) records/s" } ?? "-"),
      "last commit   "
        + (commitAge.map { "\(($0 * 10).rounded() / 10) s ago" } ?? "none: start usage-aggregator"),
      "to be merged  \(Terminal.grouped(pendingRows)) rows",
      "dead letters  \(Terminal.grouped(total))"
        + (reasons.isEmpty ? "" : ": " + reasons.joined(separator: ", ")),
      "ledger        \(Terminal.grouped(ledger.total)) producers, missing "
        + "\(Terminal.grouped(ledger.missing)), in flight \(Terminal.grouped(ledger.inFlight))",
    ]
    if let deliveries { lines.append("deliveries    \(deliveries.text)") }
    return lines
  }

  /// The number of accepted events is the sum of the columns to its right, up to `missing`.
  private func ledgerLines(_ screen: Screen) -> [Screen.Line] {
    guard !ledger.rows.isEmpty else { return [] }
    func number(_ value: Int64?) -> String { value.map { Terminal.grouped($0) } ?? "-" }
    let table = screen.table(
      [
        "producer", "topic", "group", "accepted", "pending", "dropped", "counted", "repeated",
        "dead", "in flight", "missing", "last report",
      ],
      ledger.rows.prefix(10).map {
        [
          Terminal.printable($0.producer), Terminal.printable($0.topic),
          Terminal.printable($0.group), number($0.accepted), number($0.pending),
          number($0.dropped), number($0.counted), number($0.repeated), number($0.deadLettered),
          number($0.inFlight), number($0.missing), $0.lastReport ?? "-",
        ]
      }, right: Set(3...10), optional: [11, 5, 4, 8, 7, 9, 1, 2, 3])
    return [Screen.Line("")] + table
  }
}

extension PartitionHaltStore.Halt {
  var json: JSON {
    [
      "consumer_group": .text(group), "topic": .text(topic), "partition": .int(partition),
      "reason": .text(reason), "remedy": .optional(remedy), "since": .optional(since),
    ]
  }
}

extension UsageReads.LedgerRow {
  fileprivate var json: JSON {
    [
      "consumer_group": .text(group), "topic": .text(topic), "producer": .text(producer),
      "accepted": .optional(accepted), "pending": .optional(pending),
      "dropped": .optional(dropped), "counted": .integer(counted),
      "duplicates": .integer(duplicates),
      "repeated": .integer(repeated), "dead_lettered": .integer(deadLettered),
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
