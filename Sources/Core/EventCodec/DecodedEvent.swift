package import Metering

/// The result of decoding one record. It is a plain value, and its texts borrow memory (see
/// `Text`).
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
  /// The `traceparent` of a usage event or a validation, which `TraceContext` reads. It is absent
  /// if the text is not a valid one.
  package var traceparent = Text.absent

  /// Producer and sequence are set on rejected events too if they could be read, because the ledger
  /// counts by them.
  package var producer = Text.absent
  /// It is −1 if there is none.
  package var sequence: Int64 = -1

  package var quantity: Int64 = 1
  /// The event's time in milliseconds since 1970, UTC.
  package var time: Int64 = 0

  /// The verdict of a validation.
  package var code = VerdictCode.valid

  /// Whether it counts and enters the dedupe window, as usage events and validations do.
  @inline(__always)
  package var isEvent: Bool { kind.rawValue <= Kind.validation.rawValue }

  /// The cumulative number in a producer report.
  package var accepted: Int64 = 0
  package var pending: Int64 = 0
  package var dropped: Int64 = 0

  package init() {}
}

/// A record as the broker delivers it. Its memory is borrowed for the life of a batch.
package struct RecordBytes {
  package var value: UnsafeRawBufferPointer?
  package var key: UnsafeRawBufferPointer?
  /// The record's own timestamp in milliseconds. It is negative if the record has none.
  package var timestamp: Int64

  @inline(__always)
  package init(value: UnsafeRawBufferPointer?, key: UnsafeRawBufferPointer?, timestamp: Int64) {
    self.value = value
    self.key = key
    self.timestamp = timestamp
  }
}

/// The answer of a validation, from `data.code`.
package enum VerdictCode: UInt8, Sendable, CaseIterable {
  case valid, grace, invalidSignature, notFound, canceled, suspended, notYetValid, expired
  case domainMismatch, limitExceeded

  /// The name in events.
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
