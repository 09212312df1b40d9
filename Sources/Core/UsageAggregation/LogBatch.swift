package import Metering

/// What was read since the last flush. It holds the table of usage, or sightings, and everything
/// that is stored with them.
package final class LogBatch {
  /// The payload bytes of dead letters that make a batch due.
  private static let deadLetterBytes = 32 << 20
  /// A flood of invented producers must not fill it either.
  private static let forgottenProducers = 50_000
  /// A flood of foreign domains must not fill the memory.
  private static let sightings = 200_000

  package var table: UsageTable
  /// The suspicious validations in the order of the log.
  package var sightings: [Sighting] = []
  /// The newest timestamp of each partition's records since `resetCounts`, in milliseconds.
  package var newestTimestamps: [Int32: Int64] = [:]
  package var deadLetters: [DeadLetter] = []
  package var reports: [ProducerReport] = []
  package var requeued: [RequeuedLetter] = []
  package var progress: [PartitionProgress] = []
  package var counters = BatchCounters()

  package init(hash: KeyedHash) { table = UsageTable(hash: hash) }

  package func reset() {
    resetCounts()
    deadLetters.removeAll(keepingCapacity: true)
    reports.removeAll(keepingCapacity: true)
    requeued.removeAll(keepingCapacity: true)
    progress.removeAll(keepingCapacity: true)
    counters = BatchCounters()
    deadLetterBytes = 0
    forgottenProducers = 0
  }

  /// Forgets what was counted. Consumers call it after they have taken the counts into their own
  /// state.
  package func resetCounts() {
    table.reset()
    sightings.removeAll(keepingCapacity: true)
    newestTimestamps.removeAll(keepingCapacity: true)
  }

  /// Whether the batch must be sealed before more records can be taken.
  package var isFull: Bool {
    table.isFull || deadLetterBytes > Self.deadLetterBytes || sightings.count > Self.sightings
      || forgottenProducers > Self.forgottenProducers
  }

  package var isEmpty: Bool { counters.records == 0 && progress.isEmpty }
  /// The payload bytes of dead letters, which the accumulator bounds.
  package var deadLetterBytes = 0
  /// The number of producers that made room for others since the batch was opened.
  package var forgottenProducers = 0
}

package struct BatchCounters: Sendable {
  package var records = 0
  package var bytes = 0
  package var counted = 0
  package var duplicates = 0
  /// The timestamp of the oldest record in the batch, in milliseconds. Nil if there is none.
  package var oldestTimestamp: Int64?
  package init() {}
}

package struct DeadLetter: Sendable {
  package var partition: Int32
  package var offset: Int64
  package var reason: RejectionReason
  package var payload: [UInt8]?
  package var key: [UInt8]?
  package var timestamp: Int64
}

/// A dead letter that is settled for ever, because a record that requeued it was judged.
package struct RequeuedLetter: Sendable {
  /// The partition of the record.
  package var partition: Int32
  package var key: DeadLetterKey
  /// False if the record was a duplicate of an event within the window.
  package var isCounted: Bool
}

/// A producer's own account of what it accepted, cumulative.
package struct ProducerReport: Sendable {
  package var partition: Int32
  package var producer: String
  package var accepted: Int64
  package var pending: Int64
  package var dropped: Int64
  package var isFinal: Bool
  package var timestamp: Int64
}

/// How far a partition has come. It holds the compare-and-set of the offset, and the record to
/// remember.
package struct PartitionProgress: Sendable {
  package var partition: Int32
  /// The offset that the store must still hold for the flush to be allowed.
  package var expectedOffset: Int64
  package var nextOffset: Int64
  package var lastRecordOffset: Int64
  package var lastRecordHash: Int64
  package var producers: [ProducerState]
}
