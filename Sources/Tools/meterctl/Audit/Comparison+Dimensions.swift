import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares domains and features of a day.
extension Comparison {
  fileprivate struct DimensionGroup: Hashable {
    var day: UsageKey
    var dimension: DimensionKey.Dimension
  }

  mutating func compareDimensions() {
    let borrowedDays = Set(
      hourVerdicts.lazy.filter { $0.value != .readable }.map { $0.key.usage.start(of: .day) })
    let doubtfulDays = Set(doubtfulMinutes.keys.lazy.map { $0.usage.start(of: .day) })
    var log: [DimensionGroup: [ExactText: Tally]] = [:]
    for partition in partitions.values {
      for (key, tally) in partition.dimensionTotals
      where stored.range.contains(key.dayStart, length: 1440) {
        log[key.group, default: [:]][key.value, default: Tally()].add(tally)
      }
    }
    var found: [DimensionGroup: [ExactText: Tally]] = [:]
    for (key, tally) in stored.dimensions where stored.range.contains(key.dayStart, length: 1440) {
      found[key.group, default: [:]][key.value, default: Tally()].add(tally)
    }
    let groups = Set(log.keys).union(found.keys).sorted {
      ($0.day, $0.dimension.rawValue) < ($1.day, $1.dimension.rawValue)
    }
    for group in groups {
      let (logged, kept) = (log[group] ?? [:], found[group] ?? [:])
      if borrowedDays.contains(group.day)
        || (logged != kept && doubtfulDays.contains(group.day))
      {
        report.notProvable(
          .dimension, "their days are not provable",
          rows: max(kept.count, 1), tally: kept.values.reduce(into: Tally()) { $0.add($1) })
      } else {
        compare(group, log: logged, stored: kept)
      }
    }
  }

  private mutating func compare(
    _ group: DimensionGroup, log: [ExactText: Tally], stored kept: [ExactText: Tally]
  ) {
    func mismatch(_ value: ExactText?, _ expected: Tally, _ actual: Tally, _ note: String?) {
      report.different(
        .init(
          kind: .dimension, license: group.day.license, meter: group.day.meter,
          minute: group.day.minuteStart, dimension: group.dimension.rawValue,
          value: value?.string, expected: .tally(expected), actual: .tally(actual), note: note))
    }
    let isCapped = kept["(other)"] != nil && kept["(other)"] != log["(other)"]
    if isCapped {
      // Values that were put together were first counted under their own names, or never. A named
      // row may therefore be less than the log's number, and only the whole must be complete.
      let whole = log.values.reduce(into: Tally()) { $0.add($1) }
      let sum = kept.values.reduce(into: Tally()) { $0.add($1) }
      if whole != sum { mismatch(nil, whole, sum, "the sum of all values") }
    }
    let values = isCapped ? Set(kept.keys).subtracting(["(other)"]) : Set(kept.keys).union(log.keys)
    for value in values.sorted() {
      let (expected, actual) = (log[value] ?? Tally(), kept[value] ?? Tally())
      let fits =
        isCapped
        ? actual.quantity <= expected.quantity && actual.eventCount <= expected.eventCount
        : actual == expected
      if fits { report.equal(.dimension) } else { mismatch(value, expected, actual, nil) }
    }
    if isCapped { report.equal(.dimension) }
  }
}

extension DimensionKey {
  fileprivate var group: Comparison.DimensionGroup {
    .init(
      day: UsageKey(license: license, meter: meter, minuteStart: dayStart), dimension: dimension)
  }
}
