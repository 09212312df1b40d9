import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares dead letters, one by one.
extension Comparison {
  mutating func compareDeadLetters() {
    var found: [LogPosition: UsageReads.DeadLetterPlace] = [:]
    for row in stored.deadLetters {
      guard let partition = partitions[row.partition], partition.unreadable == nil,
        row.logEpoch == partition.logEpoch, row.offset >= partition.low, !row.isLost
      else {
        // Dead letters have no event time, so a range of times selects none.
        if stored.range != UsageReads.Minutes() { continue }
        report.notProvable(
          .deadLetter, "dead letters of a log that can no longer be read",
          partition: row.partition, logEpoch: row.logEpoch,
          logBegins: partitions[row.partition]?.logBegins)
        continue
      }
      let place = LogPosition(partition: row.partition, offset: row.offset)
      if found[place] != nil {
        differentDeadLetter(place, "one dead letter", "one row more")
      }
      found[place] = row
    }
    for partition in partitions.values.sorted(by: { $0.partition < $1.partition }) {
      let gaps = stored.gaps(of: partition.partition)
      for (offset, reason) in partition.deadLetters.sorted(by: { $0.key < $1.key }) {
        let place = LogPosition(partition: partition.partition, offset: offset)
        let row = found.removeValue(forKey: place)
        if row?.reason == reason {
          report.equal(.deadLetter)
        } else if row == nil,
          gaps.contains(where: { ($0.firstOffset...$0.lastOffset).contains(offset) })
        {
          report.notProvable(
            .deadLetter, "dead letters at offsets that were given up (log_gap)",
            partition: partition.partition, logEpoch: partition.logEpoch)
        } else {
          differentDeadLetter(place, reason, row?.reason ?? "none")
        }
      }
    }
    for (place, row) in found.sorted(by: { $0.key < $1.key }) {
      differentDeadLetter(place, "none", row.reason)
    }
  }

  private mutating func differentDeadLetter(
    _ place: LogPosition, _ expected: String, _ actual: String
  ) {
    report.different(
      .init(
        kind: .deadLetter, logEpoch: partitions[place.partition]?.logEpoch,
        partition: place.partition, offset: place.offset, expected: .text(expected),
        actual: .text(actual)))
  }
}
