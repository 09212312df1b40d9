import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares minutes of a partition, if their hour can be proved.
extension Comparison {
  mutating func compareMinutes() {
    var kept: [StoredKey: Tally] = [:]
    for (key, tally) in stored.minutes {
      var hour = key
      hour.usage = key.usage.start(of: .hour)
      kept[hour, default: Tally()].add(tally)
    }
    let keys = Set(stored.minutes.keys).union(logMinutes.keys)
    for key in keys.sorted(by: Self.precedes)
    where stored.range.contains(key.usage.minuteStart, length: 1) {
      var hour = key
      hour.usage = key.usage.start(of: .hour)
      let found = stored.minutes[key] ?? Tally()
      // For other hours the reason was given already.
      let verdict = hourVerdicts[hour] ?? .notProvable
      guard verdict != .notProvable else {
        report.notProvable(
          .minute, "their hours are not provable", partition: key.partition,
          logEpoch: key.logEpoch, logBegins: partitions[key.partition]?.logBegins, tally: found)
        continue
      }
      if let earliest = partitions[key.partition]?.earliest[key.usage.hour],
        earliest < stored.takenAt - Self.minuteRetentionMilliseconds,
        kept[hour] ?? Tally() != stored.hours[hour]?.tally
      {
        report.notProvable(
          .minute, "minute rows are kept for \(SchemaContract.minuteDays) days",
          partition: key.partition,
          logEpoch: key.logEpoch, tally: found)
        continue
      }
      let expected = logMinutes[key] ?? Tally()
      let doubtful = doubt(key, in: doubtfulMinutes)
      if verdict == .older {
        compareAtLeast(
          .minute, key, found, expected: expected, doubtful: doubtful,
          reason: "their hours began before the log does")
      } else if found == expected, !unprovenRows.contains(key) {
        report.equal(.minute)
      } else if found == expected || mayBe(found, expected, doubtful: doubtful) {
        compareAtLeast(
          .minute, key, found, expected: expected, doubtful: doubtful, reason: Self.doubtReason)
      } else {
        report.different(
          .init(
            kind: .minute, license: key.usage.license, meter: key.usage.meter,
            minute: key.usage.minuteStart, logEpoch: key.logEpoch, partition: key.partition,
            expected: .tally(expected), actual: .tally(found)))
      }
    }
  }
}
