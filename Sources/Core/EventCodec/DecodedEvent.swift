package import Metering

/// What one record turned out to be. A plain value: its texts borrow, see `Text`.
package struct DecodedEvent {
  package enum Kind: UInt8 { case usage, validation, report, rejected }

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
  /// Of a usage event or a validation: `TraceContext` reads it. Absent where it is no `traceparent`.
  package var traceparent = Text.absent

  /// Set on rejected events too, where they could be read: the ledger counts by them.
  package var producer = Text.absent
  /// −1: none.
  package var sequence: Int64 = -1

  package var quantity: Int64 = 1
  /// Milliseconds since 1970, UTC.
  package var time: Int64 = 0

  /// Of a validation.
  package var code = VerdictCode.valid

  /// Counts and enters the dedupe window: a usage event or a validation.
  @inline(__always)
  package var isEvent: Bool { kind.rawValue <= Kind.validation.rawValue }

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

/// What a validation answered: `data.code`.
package enum VerdictCode: UInt8, Sendable, CaseIterable {
  case valid, grace, invalidSignature, notFound, canceled, suspended, notYetValid, expired
  case domainMismatch, limitExceeded

  /// As events spell it.
  package var name: StaticString {
    switch self {
    case .valid: "valid"
    case .grace: "grace"
    case .invalidSignature: "invalid_signature"
    case .notFound: "not_found"
    case .canceled: "canceled"
    case .suspended: "suspended"
    case .notYetValid: "not_yet_valid"
    case .expired: "expired"
    case .domainMismatch: "domain_mismatch"
    case .limitExceeded: "limit_exceeded"
    }
  }
}
