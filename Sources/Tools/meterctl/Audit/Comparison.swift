import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares the recount of the log with PostgreSQL's rows: values in, a report out.
struct Comparison {
  /// The result for an hour, which the rows below it use.
  enum HourVerdict {
    /// The log has all of the hour, whether it is equal or not.
    case readable
    /// The log has all of the hour, but some events may repeat events that it no longer has.
    case doubtful
    /// The hour began before the log, which has only a part of it.
    case older
    case notProvable
  }

  let stored: StoredUsage
  let partitions: [Int32: CountedPartition]
  var report: ReconcileReport
  var hourVerdicts: [StoredKey: HourVerdict] = [:]
  var logHours: [StoredKey: Tally] = [:]
  var logMinutes: [StoredKey: Tally] = [:]
  /// Events that might be duplicates of events that cannot be read.
  var doubtfulMinutes: [StoredKey: Tally] = [:]
  /// Minutes and hours with such events that are in the first window or in a gap, or that were
  /// requeued. Even if they are equal, nothing proves it. (For producers that are older than the
  /// log, their own row says so.)
  var unprovenRows: Set<StoredKey> = []
  var olderProducers: Set<StoredUsage.ProducerKey> = []

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
    comparison.noteTimeBeforeLog()
    return comparison.report
  }

  /// An event's time is at most an hour ahead of its record's. So the records that are gone hold
  /// nothing of the time from an hour after the log's beginning on.
  private mutating func noteTimeBeforeLog() {
    for partition in partitions.values
    where partition.hasUnreadablePast && partition.unreadable == nil {
      if let from = stored.range.from, let begins = partition.logBegins,
        from * 60_000 >= begins + Limits.aheadMilliseconds
      {
        continue
      }
      report.beginsLate(
        partition: partition.partition, logEpoch: partition.logEpoch,
        logBegins: partition.logBegins)
    }
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

  /// Producers of which more was counted than the readable log contains. Their sequences were above
  /// 0 when it began.
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

  func doubt(_ key: StoredKey, in sums: [StoredKey: Tally]) -> Tally {
    sums[key] ?? Tally()
  }

  /// Whether `actual` can be what the log says, if some of the doubtful events are left out.
  func mayBe(_ actual: Tally, _ expected: Tally, doubtful: Tally) -> Bool {
    !doubtful.isNothing && actual.quantity <= expected.quantity
      && actual.eventCount <= expected.eventCount
      && holds(actual, atLeast: expected, doubtful: doubtful)
  }

  /// Whether everything is there that the log contains and that is not in doubt.
  private func holds(_ actual: Tally, atLeast expected: Tally, doubtful: Tally) -> Bool {
    actual.quantity >= expected.quantity - doubtful.quantity
      && actual.eventCount >= expected.eventCount - doubtful.eventCount
  }

  /// Notes a row that may be more than the log still has of it, but not less.
  mutating func compareAtLeast(
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

  static let doubtReason =
    "they hold events that may repeat what came before the log's beginning"

  static func precedes(_ a: StoredKey, _ b: StoredKey) -> Bool {
    if a.usage != b.usage { return a.usage < b.usage }
    return (a.logEpoch, a.partition) < (b.logEpoch, b.partition)
  }
}
