/// The partitions that stand still, grouped by cause.
package struct StandstillSummary: Sendable, Equatable {
  /// The partitions of each cause, with the sentence of the first of them.
  package private(set) var causes: [Standstill.Cause: (partitions: [Int32], detail: String)] = [:]

  package init(_ standstills: [(partition: Int32, standstill: Standstill)]) {
    for (partition, standstill) in standstills.sorted(by: { $0.partition < $1.partition }) {
      causes[standstill.cause, default: ([], standstill.detail)].partitions.append(partition)
    }
  }

  package static func == (a: Self, b: Self) -> Bool {
    a.causes.count == b.causes.count
      && a.causes.allSatisfy { cause, told in
        guard let other = b.causes[cause] else { return false }
        return other.partitions == told.partitions && other.detail == told.detail
      }
  }

  /// How `/health/ready` names the partitions of a cause: `partition 3`, or `partitions 0-3, 7`.
  package static func name(_ partitions: [Int32]) -> String {
    guard partitions.count > 1 else { return "partition \(partitions.first ?? 0)" }
    var ranges: [(Int32, Int32)] = []
    for partition in partitions.sorted() {
      if let last = ranges.last, last.1 + 1 == partition {
        ranges[ranges.count - 1].1 = partition
      } else {
        ranges.append((partition, partition))
      }
    }
    let shown = ranges.prefix(16).map { $0.0 == $0.1 ? "\($0.0)" : "\($0.0)-\($0.1)" }
    let more = ranges.count > 16 ? ", …" : ""
    return "partitions " + shown.joined(separator: ", ") + more
  }

  /// The sentence of a cause, with how many partitions it concerns.
  package func sentence(_ cause: Standstill.Cause) -> String {
    guard let told = causes[cause] else { return "" }
    return told.partitions.count == 1
      ? told.detail : "\(told.partitions.count) partitions, the first: \(told.detail)"
  }
}
