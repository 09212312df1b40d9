import Metering

/// The place of a record in a topic.
package struct LogPosition: Hashable, Comparable, Sendable {
  package var partition: Int32
  package var offset: Int64

  package init(partition: Int32, offset: Int64) {
    self.partition = partition
    self.offset = offset
  }

  package static func < (left: LogPosition, right: LogPosition) -> Bool {
    (left.partition, left.offset) < (right.partition, right.offset)
  }
}

/// The combined recounts of several partitions.
package struct RecountResult: Sendable {
  /// The key includes the partition, because a license may be in several partitions after a topic
  /// has grown.
  package struct ProvenanceKey: Hashable, Sendable {
    package var partition: Int32
    package var hour: PartitionRecount.ProvenanceKey

    package init(partition: Int32, hour: PartitionRecount.ProvenanceKey) {
      self.partition = partition
      self.hour = hour
    }
  }

  /// The counts by minute. `rolledUp(to:)` gives hours and days.
  package private(set) var totals = Totals(window: .minute)
  package private(set) var dimensionTotals: [DimensionKey: Tally] = [:]
  package private(set) var provenance: [ProvenanceKey: OffsetRange] = [:]
  package private(set) var deadLetters: [LogPosition: String] = [:]
  package private(set) var ledger: [ExactText: LedgerEntry] = [:]

  package init() {}

  /// Adds a partition. Each partition may be added only once.
  package mutating func merge(_ recount: PartitionRecount) {
    totals.merge(Totals(window: .minute, rows: recount.totals))
    for (key, tally) in recount.dimensionTotals {
      dimensionTotals[key, default: Tally()].add(tally)
    }
    for (hour, range) in recount.provenance {
      let key = ProvenanceKey(partition: recount.partition, hour: hour)
      precondition(provenance[key] == nil, "a partition was merged twice")
      provenance[key] = range
    }
    for (offset, reason) in recount.deadLetters {
      deadLetters[LogPosition(partition: recount.partition, offset: offset)] = reason
    }
    for (producer, entry) in recount.ledger {
      ledger[producer, default: LedgerEntry()].add(entry)
    }
  }
}
