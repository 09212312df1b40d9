import LogAudit
import Metering
import Recount

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
