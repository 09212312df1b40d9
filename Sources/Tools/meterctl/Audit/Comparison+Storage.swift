import LogAudit
import Metering
import PostgresStore
import Recount

/// Reports what is known without the log: partitions that cannot be read, views, and quarantine.
extension Comparison {
  mutating func noteStorage() {
    // This is reported even if nothing is stored, because nobody knows what such a log contains.
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
}
