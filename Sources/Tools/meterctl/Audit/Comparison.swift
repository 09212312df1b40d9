import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares the log's recount with PostgreSQL's rows: values in, a report out.
struct Comparison {
  /// What an hour's comparison came to, for the rows that are made of it.
  private enum HourVerdict {
    /// The log has all of it, whether equal or not.
    case readable
    /// The log has all of it, but some of its events may repeat what the log has no more.
    case doubtful
    /// It began before the log does: the log has a part of it.
    case older
    case notProvable
  }

  private let stored: StoredUsage
  private let partitions: [Int32: CountedPartition]
  private(set) var report: ReconcileReport
  private var hourVerdicts: [StoredKey: HourVerdict] = [:]
  private var logHours: [StoredKey: Tally] = [:]
  private var logMinutes: [StoredKey: Tally] = [:]
  /// Of events that might be duplicates of what cannot be read.
  private var doubtfulMinutes: [StoredKey: Tally] = [:]
  /// Minutes and hours with such events that lie in the first window, in a gap, or were requeued: even where they are equal, nothing
  /// proves it. (Of producers that are older than the log their own row says so.)
  private var unprovenRows: Set<StoredKey> = []
  private var olderProducers: Set<StoredUsage.ProducerKey> = []

  static let minuteRetentionMilliseconds = SchemaContract.minuteDays * 86_400_000
  static let hourRetentionMilliseconds = SchemaContract.hourDays * 86_400_000

  private init(_ stored: StoredUsage, _ partitions: [CountedPartition], maxDifferences: Int) {
    self.stored = stored
    self.partitions = Dictionary(uniqueKeysWithValues: partitions.map { ($0.partition, $0) })
    report = ReconcileReport(maxDifferences: maxDifferences)
  }

  static func run(
    _ stored: StoredUsage, _ partitions: [CountedPartition], maxDifferences: Int
  ) -> ReconcileReport {
    var comparison = Comparison(stored, partitions, maxDifferences: maxDifferences)
    comparison.collect()
    comparison.compareHours()
    comparison.compareMinutes()
    comparison.compareDays()
    comparison.compareDimensions()
    comparison.compareDeadLetters()
    comparison.compareProducers()
    comparison.noteStorage()
    return comparison.report
  }

  // MARK: What the log says

  private mutating func collect() {
    let hours = stored.range.widened(to: 60)
    for partition in partitions.values {
      let withPast = partition.hasUnreadablePast ? producersWithPast(partition) : []
      func key(_ usage: UsageKey) -> StoredKey {
        StoredKey(logEpoch: partition.logEpoch, partition: partition.partition, usage: usage)
      }
      for (usage, tally) in partition.totals
      where hours.contains(usage.minuteStart, length: 1) {
        logMinutes[key(usage)] = tally
        logHours[key(usage.start(of: .hour)), default: Tally()].add(tally)
      }
      for (doubt, tally) in partition.doubtful
      where hours.contains(doubt.usage.minuteStart, length: 1) {
        if let producer = doubt.producer {
          guard withPast.contains(producer) else { continue }
          olderProducers.insert(.init(partition: partition.partition, producer: producer))
        } else {
          unprovenRows.insert(key(doubt.usage))
          unprovenRows.insert(key(doubt.usage.start(of: .hour)))
        }
        doubtfulMinutes[key(doubt.usage), default: Tally()].add(tally)
      }
    }
  }

  /// The producers of which more was counted than the readable log holds: their sequences were above 0 when it began.
  private func producersWithPast(_ partition: CountedPartition) -> Set<ExactText> {
    let isForgetful = stored.forgetful.contains(partition.partition)
    let isUpToCheckpoint = partition.checkpoint != nil
    let log = isUpToCheckpoint ? partition.ledgerBefore : partition.ledger
    var known: [ExactText: LedgerEntry] = [:]
    for producer in partition.checkpoint?.producers ?? [] { known[producer.name] = producer.entry }
    return Set(
      log.compactMap { producer, entry in
        let key = StoredUsage.ProducerKey(partition: partition.partition, producer: producer)
        guard let known = isUpToCheckpoint ? known[producer] : stored.producers[key] else {
          return isForgetful ? producer : nil
        }
        return known.counted + known.duplicates > entry.counted + entry.duplicates
          ? producer : nil
      })
  }

  private func doubt(_ key: StoredKey, in sums: [StoredKey: Tally]) -> Tally {
    sums[key] ?? Tally()
  }

  /// Whether `actual` is what the log says, once some of what is in doubt is left out.
  private func mayBe(_ actual: Tally, _ expected: Tally, doubtful: Tally) -> Bool {
    !doubtful.isNothing && actual.quantity <= expected.quantity
      && actual.eventCount <= expected.eventCount
      && holds(actual, atLeast: expected, doubtful: doubtful)
  }

  /// Whether all is there that the log has and nothing puts in doubt.
  private func holds(_ actual: Tally, atLeast expected: Tally, doubtful: Tally) -> Bool {
    actual.quantity >= expected.quantity - doubtful.quantity
      && actual.eventCount >= expected.eventCount - doubtful.eventCount
  }

  /// Notes a row that may be more than the log has of it, but not less.
  private mutating func compareAtLeast(
    _ kind: ReconcileReport.Kind, _ key: StoredKey, _ found: Tally, expected: Tally,
    doubtful: Tally, reason: String
  ) {
    guard holds(found, atLeast: expected, doubtful: doubtful) else {
      report.different(
        .init(
          kind: kind, license: key.usage.license, meter: key.usage.meter,
          minute: key.usage.minuteStart, logEpoch: key.logEpoch, partition: key.partition,
          expected: .tally(expected), actual: .tally(found),
          note: "the log has only a part of it, and that is missing"))
      return
    }
    let hasProvenPart = expected.eventCount > doubtful.eventCount
    report.notProvable(
      kind, reason, partition: key.partition, logEpoch: key.logEpoch,
      logBegins: partitions[key.partition]?.logBegins, tally: found,
      holdsWhatIsLeft: hasProvenPart)
  }

  private static let doubtReason =
    "they hold events that may repeat what came before the log's beginning"

  // MARK: Hours

  private mutating func compareHours() {
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

  /// Whether the log's beginning lies within the row's events.
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
    // A late event makes the row again, with itself alone.
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

  /// The range that PostgreSQL remembers must hold every event that counted.
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

  // MARK: Minutes

  private mutating func compareMinutes() {
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
      // Of other hours it was said why.
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

  // MARK: Days

  /// A day is the sum of its hours: of those that the log has by the log, of the others as they are stored.
  private mutating func compareDays() {
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
            note: borrowed[key] == nil ? nil : "some hours taken as they are stored"))
      }
    }
  }

  // MARK: Dimensions

  fileprivate struct DimensionGroup: Hashable {
    var day: UsageKey
    var dimension: DimensionKey.Dimension
  }

  private mutating func compareDimensions() {
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
      // What was put together was counted under its own name first or never: a named row may be less than the log says, and
      // the whole must be all of it.
      let whole = log.values.reduce(into: Tally()) { $0.add($1) }
      let sum = kept.values.reduce(into: Tally()) { $0.add($1) }
      if whole != sum { mismatch(nil, whole, sum, "sum of all values") }
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

  // MARK: Dead letters, producers, storage

  private mutating func compareDeadLetters() {
    var found: [LogPosition: UsageReads.DeadLetterPlace] = [:]
    for row in stored.deadLetters {
      guard let partition = partitions[row.partition], partition.unreadable == nil,
        row.logEpoch == partition.logEpoch, row.offset >= partition.low
      else {
        // Dead letters have no time of an event: a range of times asks for none of them.
        if stored.range != UsageReads.Minutes() { continue }
        report.notProvable(
          .deadLetter, "dead letters of a log that cannot be read any more",
          partition: row.partition, logEpoch: row.logEpoch,
          logBegins: partitions[row.partition]?.logBegins)
        continue
      }
      let place = LogPosition(partition: row.partition, offset: row.offset)
      if found[place] != nil {
        differentDeadLetter(place, "one dead letter", "a row more")
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

  private mutating func compareProducers() {
    var log: [StoredUsage.ProducerKey: LedgerEntry] = [:]
    for partition in partitions.values where partition.unreadable == nil {
      for producer in partition.checkpoint?.producers ?? [] {
        log[.init(partition: partition.partition, producer: producer.name)] = producer.entry
      }
      for (producer, entry) in partition.ledger {
        log[.init(partition: partition.partition, producer: producer), default: .init()].add(entry)
      }
    }
    let keys = Set(log.keys).union(stored.producers.keys).sorted {
      ($0.producer, $0.partition) < ($1.producer, $1.partition)
    }
    for key in keys {
      var expected = log[key] ?? LedgerEntry()
      // The aggregator keeps no number of them.
      expected.requeued = 0
      let actual = stored.producers[key] ?? LedgerEntry()
      if expected == actual {
        report.equal(.producer)
        continue
      }
      if stored.forgetful.contains(key.partition), actual.counted <= expected.counted {
        report.notProvable(
          .producer, "producers that made room for others before their first report",
          partition: key.partition, logEpoch: partitions[key.partition]?.logEpoch)
        continue
      }
      if let partition = partitions[key.partition],
        mayHavePast(partition, expected: expected, actual: actual)
      {
        if stored.range != UsageReads.Minutes(), !olderProducers.contains(key) { continue }
        report.notProvable(
          .producer, "producers that wrote before the log's beginning", partition: key.partition,
          logEpoch: partition.logEpoch, logBegins: partition.logBegins)
        continue
      }
      report.different(
        .init(
          kind: .producer, partition: key.partition, producer: key.producer,
          expected: .text(expected.text), actual: .text(actual.text)))
    }
    compareLedgerView()
  }

  /// Whether a producer's counts may differ because of records that cannot be read.
  private func mayHavePast(
    _ partition: CountedPartition, expected: LedgerEntry, actual: LedgerEntry
  ) -> Bool {
    let (logged, known) = (
      expected.counted + expected.duplicates, actual.counted + actual.duplicates
    )
    if !stored.gaps(of: partition.partition).isEmpty { return known >= logged }
    guard let checkpoint = partition.checkpoint else {
      return partition.hasUnreadablePast && known >= logged
    }
    // What repeats ids from before the log is told apart by nothing, but it is there.
    return known == logged && actual.counted <= expected.counted
      && !partition.knowsWindow(
        at: checkpoint.offset, stored.windows[partition.partition] ?? [])
  }

  /// The view adds up the partitions' rows, whatever the log says.
  private mutating func compareLedgerView() {
    var sums: [ExactText: LedgerEntry] = [:]
    for (key, entry) in stored.producers { sums[key.producer, default: LedgerEntry()].add(entry) }
    for row in stored.ledger {
      let actual = LedgerEntry(
        counted: row.counted, duplicates: row.duplicates, repeated: row.repeated,
        deadLettered: row.deadLettered)
      let expected = sums.removeValue(forKey: ExactText(row.producer)) ?? LedgerEntry()
      if actual != expected {
        report.different(
          .init(
            kind: .view, producer: ExactText(row.producer), expected: .text(expected.text),
            actual: .text(actual.text), note: "producer_ledger against producer_sequence"))
      }
    }
    for (producer, entry) in sums {
      report.different(
        .init(
          kind: .view, producer: producer, expected: .text(entry.text), actual: .text("no row"),
          note: "producer_ledger against producer_sequence"))
    }
  }

  private mutating func noteStorage() {
    // Said even where nothing is stored of it: what its log holds is unknown.
    for partition in partitions.values {
      guard let reason = partition.unreadable else { continue }
      report.notProvable(
        .hour, reason, partition: partition.partition, logEpoch: partition.logEpoch, rows: 0)
    }
    for row in stored.disagreements {
      report.different(
        .init(
          kind: .view, license: ExactText(row.license), meter: ExactText(row.meter),
          minute: row.start,
          expected: .tally(Tally(quantity: row.storageQuantity, eventCount: row.storageEvents)),
          actual: .tally(Tally(quantity: row.viewQuantity, eventCount: row.viewEvents)),
          note: "\(row.view) against its storage"))
    }
    for (license, rows) in stored.quarantined {
      report.different(
        .init(
          kind: .quarantine, license: ExactText(license),
          expected: .text("usage that is counted"),
          actual: .text("\(rows) rows set aside, since the license's numbers no longer fit")))
    }
  }

  private static func precedes(_ a: StoredKey, _ b: StoredKey) -> Bool {
    if a.usage != b.usage { return a.usage < b.usage }
    return (a.logEpoch, a.partition) < (b.logEpoch, b.partition)
  }
}

extension DimensionKey {
  fileprivate var group: Comparison.DimensionGroup {
    .init(
      day: UsageKey(license: license, meter: meter, minuteStart: dayStart), dimension: dimension)
  }
}

extension LedgerEntry {
  fileprivate var text: String {
    "\(counted) counted, \(duplicates) duplicates (\(repeated) repeated), \(deadLettered) dead-lettered"
  }
}
