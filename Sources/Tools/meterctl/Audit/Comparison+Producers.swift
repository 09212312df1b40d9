import LogAudit
import Metering
import PostgresStore
import Recount

/// Compares what partitions know about their producers, and the view that adds it up.
extension Comparison {
  mutating func compareProducers() {
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
      // The aggregator stores no number of requeued records.
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
    // Records that repeat ids from before the log cannot be told apart, but they are in the log.
    return known == logged && actual.counted <= expected.counted
      && !partition.knowsWindow(
        at: checkpoint.offset, stored.windows[partition.partition] ?? [])
  }

  /// The view must be the sum of the partitions' rows, whatever the log says.
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
}

extension LedgerEntry {
  fileprivate var text: String {
    "\(counted) counted, \(duplicates) duplicates (\(repeated) repeated), \(deadLettered) dead-lettered"
  }
}
