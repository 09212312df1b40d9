package import Metering

/// What one record turned out to be. A plain value: its texts borrow, see `Text`.
package struct DecodedEvent {
  package enum Kind: UInt8 { case usage, report, rejected }

  package var kind: Kind = .rejected
  package var reason: RejectionReason = .notJSON
  package var isFinal = false

  package var subject = Text.absent
  package var source = Text.absent
  package var id = Text.absent
  package var meter = Text.absent
  package var domain = Text.absent
  package var feature = Text.absent
  package var importBatch = Text.absent

  /// Set on rejected events too, where they could be read: the ledger counts by them.
  package var producer = Text.absent
  /// −1: none.
  package var sequence: Int64 = -1

  package var quantity: Int64 = 1
  /// Milliseconds since 1970, UTC.
  package var time: Int64 = 0

  /// Of a producer report, cumulative.
  package var accepted: Int64 = 0
  package var pending: Int64 = 0
  package var dropped: Int64 = 0

  package init() {}
}

/// A record as the broker hands it over; borrowed for the length of a batch.
package struct RecordBytes {
  package var value: UnsafeRawBufferPointer?
  package var key: UnsafeRawBufferPointer?
  /// The record's own timestamp in milliseconds; negative: it has none.
  package var timestamp: Int64

  @inline(__always)
  package init(value: UnsafeRawBufferPointer?, key: UnsafeRawBufferPointer?, timestamp: Int64) {
    self.value = value
    self.key = key
    self.timestamp = timestamp
  }
}
