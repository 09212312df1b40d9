import LogAudit
import Metering
import Recount

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
        "  \(Terminal.grouped(atLeast)) of these rows have at least what the log still has of them."
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
    case .equal: "EQUAL: PostgreSQL has what the log says."
    case .different:
      "DIFFERENT: \(differenceCount) difference\(differenceCount == 1 ? "" : "s") "
        + "(meterctl explain shows the events behind a row)."
    case .nothingProved:
      "NOTHING WAS PROVED: the log can prove no row of usage of this time."
    case .notProvable:
      "NOT PROVABLE in full: equal as far as the log reaches, \(Terminal.grouped(rowsCompared)) rows."
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
