import LogAudit
import Metering
import Recount

/// The result of reconcile.
struct ReconcileReport {
  enum Status: String {
    case equal, different
    /// Equal as far as the log reaches, which is not the whole requested range.
    case notProvable = "not_provable"
    /// There is usage, but not a single row could be compared with the log.
    case nothingProved = "nothing_proved"
  }

  enum Kind: String, CaseIterable {
    case hour, minute, day, dimension, provenance
    case deadLetter = "dead_letter"
    case producer, view, quarantine
  }

  struct Tallied {
    var equal = 0
    var different = 0
    var notProvable = 0
    /// Rows among those not provable that contain at least what the log still has of them.
    var atLeast = 0
    var compared: Int { equal + different }
  }

  /// A row that differs from the log.
  struct Mismatch {
    var kind: Kind
    var license: ExactText?
    var meter: ExactText?
    var minute: Int64?
    var logEpoch: Int32?
    var partition: Int32?
    var offset: Int64?
    var dimension: String?
    var value: String?
    var producer: ExactText?
    /// The value from the log.
    var expected: Side
    /// The value in PostgreSQL.
    var actual: Side
    var note: String?
  }

  enum Side {
    case tally(Tally)
    case text(String)
  }

  /// Rows that the log cannot prove, grouped by the reason.
  struct Unproven {
    var reason: String
    var kind: Kind
    var partition: Int32?
    var logEpoch: Int32?
    /// In milliseconds since 1970.
    var logBegins: Int64?
    var rows = 0
    var tally = Tally()
  }

  private struct UnprovenKey: Hashable {
    var reason: String
    var kind: Kind
    var partition: Int32?
    var logEpoch: Int32?
  }

  let maxDifferences: Int
  private(set) var rows: [Kind: Tallied] = [:]
  private(set) var differences: [Mismatch] = []
  private(set) var differenceCount = 0
  private var unprovenRows: [UnprovenKey: Unproven] = [:]

  init(maxDifferences: Int) {
    self.maxDifferences = maxDifferences
  }

  var status: Status {
    if differenceCount > 0 { return .different }
    if unprovenRows.isEmpty { return .equal }
    let usage = [Kind.hour, .minute, .day].map { rows[$0] ?? Tallied() }
    let isNothingProved =
      usage.allSatisfy { $0.equal == 0 && $0.atLeast == 0 }
      && usage.contains { $0.notProvable > 0 }
    return isNothingProved ? .nothingProved : .notProvable
  }

  var unproven: [Unproven] {
    unprovenRows.values.sorted {
      ($0.logEpoch ?? 0, $0.partition ?? -1, $0.kind.rawValue, $0.reason)
        < ($1.logEpoch ?? 0, $1.partition ?? -1, $1.kind.rawValue, $1.reason)
    }
  }

  var rowsCompared: Int { rows.values.reduce(0) { $0 + $1.compared } }

  mutating func equal(_ kind: Kind) { rows[kind, default: Tallied()].equal += 1 }

  mutating func different(_ mismatch: Mismatch) {
    rows[mismatch.kind, default: Tallied()].different += 1
    differenceCount += 1
    if differences.count < maxDifferences { differences.append(mismatch) }
  }

  /// - Parameter holdsWhatIsLeft: the rows contain at least what the log still has of them.
  mutating func notProvable(
    _ kind: Kind, _ reason: String, partition: Int32? = nil, logEpoch: Int32? = nil,
    logBegins: Int64? = nil, rows count: Int = 1, tally: Tally = Tally(),
    holdsWhatIsLeft: Bool = false
  ) {
    rows[kind, default: Tallied()].notProvable += count
    if holdsWhatIsLeft { rows[kind, default: Tallied()].atLeast += count }
    let key = UnprovenKey(reason: reason, kind: kind, partition: partition, logEpoch: logEpoch)
    var entry =
      unprovenRows[key]
      ?? Unproven(
        reason: reason, kind: kind, partition: partition, logEpoch: logEpoch, logBegins: logBegins)
    entry.rows += count
    entry.tally.add(tally)
    unprovenRows[key] = entry
  }
}

// MARK: As JSON

extension JSON {
  /// A number, or a text of its digits if it does not fit 64 bits.
  static func wide(_ value: Int128) -> JSON {
    Int64(exactly: value).map { .integer($0) } ?? .text(String(value))
  }
  static func optional(minute: Int64?) -> JSON {
    .optional(minute.map { Moment(milliseconds: $0 * 60_000).description })
  }
  static func optional(milliseconds: Int64?) -> JSON {
    .optional(milliseconds.map { Moment(milliseconds: $0).description })
  }
  static func tally(_ tally: Tally) -> JSON {
    ["quantity": .wide(tally.quantity), "event_count": .integer(tally.eventCount)]
  }
}

extension ReconcileReport {
  func json(_ partitions: [CountedPartition]) -> JSON {
    [
      "status": .text(status.rawValue),
      "events": .int(partitions.reduce(0) { $0 + $1.events }),
      "counted": .int(partitions.reduce(0) { $0 + $1.counted }),
      "duplicates": .int(partitions.reduce(0) { $0 + $1.duplicates }),
      "dead_letters": .int(partitions.reduce(0) { $0 + $1.deadLetters.count }),
      "rows_compared": .int(rowsCompared),
      "rows_not_provable": .int(rows.values.reduce(0) { $0 + $1.notProvable }),
      "rows": .object(
        Kind.allCases.map {
          let count = rows[$0] ?? Tallied()
          return (
            $0.rawValue,
            [
              "equal": .int(count.equal), "different": .int(count.different),
              "not_provable": .int(count.notProvable), "at_least": .int(count.atLeast),
            ]
          )
        }),
      "difference_count": .int(differenceCount),
      "differences": .array(differences.map(\.json)),
      "not_provable": .array(unproven.map(\.json)),
      "partitions": .array(partitions.map(\.json)),
    ]
  }
}

extension ReconcileReport.Mismatch {
  fileprivate var json: JSON {
    var members: [(String, JSON)] = [("kind", .text(kind.rawValue))]
    if let license { members.append(("license_id", .text(license.string))) }
    if let meter { members.append(("meter", .text(meter.string))) }
    if let minute { members.append(("bucket_start", .optional(minute: minute))) }
    if let dimension { members.append(("dimension", .text(dimension))) }
    if let value { members.append(("value", .text(value))) }
    if let producer { members.append(("producer", .text(producer.string))) }
    if let logEpoch { members.append(("log_epoch", .int(logEpoch))) }
    if let partition { members.append(("partition", .int(partition))) }
    if let offset { members.append(("log_offset", .integer(offset))) }
    members.append(("log", expected.json))
    members.append(("postgresql", actual.json))
    if let note { members.append(("note", .text(note))) }
    return .object(members)
  }

  /// The subject of the mismatch, on one line.
  var subject: String {
    var words: [String] = []
    if let license { words.append(license.string) }
    if let meter { words.append(meter.string) }
    if let minute { words.append(Moment(milliseconds: minute * 60_000).description) }
    if let dimension { words.append("\(dimension) \(value ?? "")") }
    if let producer { words.append("producer \(producer)") }
    if let partition { words.append("partition \(partition)") }
    if let offset { words.append("offset \(offset)") }
    if let note { words.append("(\(note))") }
    return words.joined(separator: " ")
  }
}

extension ReconcileReport.Side {
  fileprivate var json: JSON {
    switch self {
    case .tally(let tally): .tally(tally)
    case .text(let text): .text(text)
    }
  }

  var text: String {
    switch self {
    case .tally(let tally): "\(tally.quantity) in \(tally.eventCount) events"
    case .text(let text): text
    }
  }
}

extension ReconcileReport.Unproven {
  fileprivate var json: JSON {
    [
      "kind": .text(kind.rawValue), "reason": .text(reason),
      "partition": .optional(partition.map { Int64($0) }),
      "log_epoch": .optional(logEpoch.map { Int64($0) }),
      "log_begins_at": .optional(milliseconds: logBegins), "rows": .int(rows),
      "quantity": .wide(tally.quantity), "event_count": .integer(tally.eventCount),
    ]
  }
}

extension CountedPartition {
  var json: JSON {
    [
      "partition": .int(partition), "log_epoch": .int(logEpoch), "low_watermark": .integer(low),
      "log_end": .integer(high), "next_offset": .integer(nextOffset),
      "log_begins_at": .optional(milliseconds: logBegins),
      "checkpoint_offset": .optional(checkpoint?.offset), "events": .integer(events),
      "counted": .integer(counted), "duplicates": .integer(duplicates),
      "dead_letters": .int(deadLetters.count), "unreadable": .optional(unreadable),
    ]
  }
}

// MARK: As text

extension ReconcileReport {
  func text(_ partitions: [CountedPartition], topic: String, group: String) -> String {
    func sum(_ member: (CountedPartition) -> Int64) -> String {
      Terminal.grouped(partitions.reduce(Int64(0)) { $0 + member($1) })
    }
    var lines = [
      "\(topic) as counted by \(group), \(partitions.count) partitions:",
      "  \(sum { $0.events }) records read from the log: \(sum { $0.counted }) counted, "
        + "\(sum { $0.duplicates }) duplicates, \(sum { Int64($0.deadLetters.count) }) dead letters",
      "",
    ]
    let table = Kind.allCases.compactMap { kind -> [String]? in
      guard let count = rows[kind] else { return nil }
      return [
        kind.rawValue, Terminal.grouped(count.equal), Terminal.grouped(count.different),
        Terminal.grouped(count.notProvable),
      ]
    }
    lines.append(
      Terminal.table(["rows", "equal", "different", "not provable"], table, right: [1, 2, 3]))
    if !differences.isEmpty {
      lines += ["", "Differences:"]
      lines += differences.map {
        "  \($0.kind.rawValue) \(Terminal.printable($0.subject)): the log says "
          + Terminal.printable($0.expected.text) + ", PostgreSQL "
          + Terminal.printable($0.actual.text)
      }
      if differenceCount > differences.count {
        lines.append(
          "  and \(differenceCount - differences.count) more: --max-differences \(differenceCount)")
      }
    }
    lines += unprovenText()
    let atLeast = rows.values.reduce(0) { $0 + $1.atLeast }
    if atLeast > 0 {
      lines.append(
        "  \(Terminal.grouped(atLeast)) of these rows hold at least what the log still has of them."
      )
    }
    return (lines + ["", verdict]).joined(separator: "\n")
  }

  private func unprovenText() -> [String] {
    var byReason: [String: (rows: [Kind: Int], partitions: Set<Int32>, begins: Int64?)] = [:]
    for entry in unproven {
      var sum = byReason[entry.reason] ?? ([:], [], nil)
      sum.rows[entry.kind, default: 0] += entry.rows
      if let partition = entry.partition { sum.partitions.insert(partition) }
      if let begins = entry.logBegins { sum.begins = min(sum.begins ?? begins, begins) }
      byReason[entry.reason] = sum
    }
    if byReason.isEmpty { return [] }
    return ["", "Not provable:"]
      + byReason.sorted { $0.key < $1.key }.map { reason, sum in
        let rows = Kind.allCases.compactMap { kind in
          sum.rows[kind].flatMap {
            $0 == 0 ? nil : "\(Terminal.grouped($0)) \(kind.rawValue) row\($0 == 1 ? "" : "s")"
          }
        }
        var line = "  " + (rows.isEmpty ? "" : rows.joined(separator: ", ") + ": ") + reason
        if let begins = sum.begins {
          line += " (not provable, log begins at \(Moment(milliseconds: begins)))"
        }
        if !sum.partitions.isEmpty { line += "; partitions \(Self.ranges(sum.partitions))" }
        return line
      }
  }

  private var verdict: String {
    switch status {
    case .equal: "EQUAL: PostgreSQL holds what the log says."
    case .different:
      "DIFFERENT: \(differenceCount) difference\(differenceCount == 1 ? "" : "s") "
        + "(meterctl explain shows the events behind a row)."
    case .nothingProved:
      "NOTHING WAS PROVED: there is usage, but the log can speak of none of its rows."
    case .notProvable:
      "NOT PROVABLE in all: equal as far as the log reaches, \(Terminal.grouped(rowsCompared)) rows."
    }
  }

  /// For example `0-3, 7`.
  static func ranges(_ numbers: Set<Int32>) -> String {
    var ranges: [ClosedRange<Int32>] = []
    for number in numbers.sorted() {
      if let last = ranges.last, last.upperBound + 1 == number {
        ranges[ranges.count - 1] = last.lowerBound...number
      } else {
        ranges.append(number...number)
      }
    }
    return ranges.map {
      $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
    }.joined(separator: ", ")
  }
}
