import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares an hour of a partition: the log's count with the stored row.
extension Comparison {
  mutating func compareHours() {
    var doubtfulHours: [StoredKey: Tally] = [:]
    for (key, tally) in doubtfulMinutes {
      var hour = key
      hour.usage = key.usage.start(of: .hour)
      doubtfulHours[hour, default: Tally()].add(tally)
    }
    let keys = Set(stored.hours.keys).union(logHours.keys)
    for key in keys.sorted(by: Self.precedes) {
      let isWhole = stored.range.contains(key.usage.minuteStart, length: 60)
      let row = stored.hours[key]
      let found = row?.tally ?? Tally()
      let expected = logHours[key] ?? Tally()
      let doubtful = doubt(key, in: doubtfulHours)
      if isOlder(key, row) {
        hourVerdicts[key] = .older
        if isWhole {
          compareAtLeast(
            .hour, key, found, expected: expected, doubtful: doubtful,
            reason: Self.olderReason)
        }
        continue
      }
      if let reason = reasonNotProvable(key, row) {
        hourVerdicts[key] = .notProvable
        if isWhole {
          report.notProvable(
            .hour, reason.text, partition: key.partition, logEpoch: key.logEpoch,
            logBegins: reason.begins, tally: found)
        }
        continue
      }
      if found != expected
        ? mayBe(found, expected, doubtful: doubtful) : unprovenRows.contains(key)
      {
        hourVerdicts[key] = .doubtful
        if isWhole {
          compareAtLeast(
            .hour, key, found, expected: expected, doubtful: doubtful, reason: Self.doubtReason)
        }
        continue
      }
      hourVerdicts[key] = .readable
      guard isWhole else { continue }
      if found == expected {
        report.equal(.hour)
        compareProvenance(key, row)
      } else {
        report.different(
          .init(
            kind: .hour, license: key.usage.license, meter: key.usage.meter,
            minute: key.usage.minuteStart, logEpoch: key.logEpoch, partition: key.partition,
            expected: .tally(expected), actual: .tally(found)))
      }
    }
  }

  private static let olderReason = "their events began before the log does"

  /// Whether the log begins within the row's events.
  private func isOlder(_ key: StoredKey, _ row: StoredUsage.Hour?) -> Bool {
    guard let row, let partition = partitions[key.partition], partition.unreadable == nil,
      key.logEpoch == partition.logEpoch
    else { return false }
    return row.firstOffset < partition.low
  }

  private func reasonNotProvable(
    _ key: StoredKey, _ row: StoredUsage.Hour?
  ) -> (text: String, begins: Int64?)? {
    guard let partition = partitions[key.partition] else {
      return ("no consumer_offset says where the partition's log was counted up to", nil)
    }
    if key.logEpoch != partition.logEpoch {
      return ("counted from an earlier log, epoch \(key.logEpoch)", partition.logBegins)
    }
    if let reason = partition.unreadable { return (reason, nil) }
    let hour = key.usage.hour
    // A late event creates the row again, with itself alone.
    if row?.tally.eventCount ?? 0 < logHours[key]?.eventCount ?? 0,
      let earliest = partition.earliest[hour],
      earliest < stored.takenAt - Self.hourRetentionMilliseconds
    {
      return ("hour rows are kept for \(SchemaContract.hourDays) days", nil)
    }
    let log = partition.provenance[hour]
    for gap in stored.gaps(of: key.partition) {
      let touches = { (first: Int64, last: Int64) in
        first <= gap.lastOffset && gap.firstOffset <= last
      }
      if row.map({ touches($0.firstOffset, $0.lastOffset) }) ?? false
        || log.map({ touches($0.firstOffset, $0.lastOffset) }) ?? false
      {
        return (
          "offsets \(gap.firstOffset) to \(gap.lastOffset) were given up (log_gap, by \(gap.acceptedBy))",
          nil
        )
      }
    }
    return nil
  }

  /// The stored range of offsets must contain every event that counted.
  private mutating func compareProvenance(_ key: StoredKey, _ row: StoredUsage.Hour?) {
    guard let row, let log = partitions[key.partition]?.provenance[key.usage.hour] else { return }
    if row.firstOffset <= log.firstOffset, log.lastOffset <= row.lastOffset {
      report.equal(.provenance)
      return
    }
    report.different(
      .init(
        kind: .provenance, license: key.usage.license, meter: key.usage.meter,
        minute: key.usage.minuteStart, logEpoch: key.logEpoch, partition: key.partition,
        expected: .text("offsets \(log.firstOffset) to \(log.lastOffset)"),
        actual: .text("\(row.firstOffset) to \(row.lastOffset)")))
  }
}
