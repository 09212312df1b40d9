import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares days over all partitions, as the sums of their hours.
extension Comparison {
  /// A day is the sum of its hours. Hours that the log has are counted from the log, the others as
  /// they are stored.
  mutating func compareDays() {
    var expected: [UsageKey: Tally] = [:]
    var borrowed: [UsageKey: Tally] = [:]
    for (key, verdict) in hourVerdicts {
      let day = key.usage.start(of: .day)
      let tally =
        verdict == .readable
        ? logHours[key] ?? Tally() : stored.hours[key]?.tally ?? Tally()
      expected[day, default: Tally()].add(tally)
      if verdict != .readable { borrowed[day, default: Tally()].add(tally) }
    }
    let keys = Set(expected.keys).union(stored.days.rows.keys)
    for key in keys.sorted() where stored.range.contains(key.minuteStart, length: 1440) {
      let found = stored.days.rows[key] ?? Tally()
      let sum = expected[key] ?? Tally()
      let end = (key.minuteStart + 1440) * 60_000
      if found == sum, borrowed[key] == nil {
        report.equal(.day)
      } else if found == sum {
        report.notProvable(
          .day, "the sum of their hours, but those are not all provable", tally: found)
      } else if end < stored.takenAt - Self.hourRetentionMilliseconds,
        sum.quantity <= found.quantity, sum.eventCount <= found.eventCount
      {
        report.notProvable(
          .day, "hour rows are kept for \(SchemaContract.hourDays) days", tally: found)
      } else {
        report.different(
          .init(
            kind: .day, license: key.license, meter: key.meter, minute: key.minuteStart,
            expected: .tally(sum), actual: .tally(found),
            note: borrowed[key] == nil ? nil : "some hours are taken as they are stored"))
      }
    }
  }
}
