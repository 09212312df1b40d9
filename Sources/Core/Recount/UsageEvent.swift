import Metering

/// A record of the log.
package struct LogRecord: Equatable, Sendable {
  package var partition: Int32
  package var offset: Int64
  /// The timestamp in milliseconds since 1970. It is negative if the record has none.
  package var timestamp: Int64
  package var key: [UInt8]?
  /// Nil for a tombstone. The empty value is a value.
  package var value: [UInt8]?
  /// The value of the header `dead-letter`, which names the dead letter that this record requeues,
  /// if it does.
  package var deadLetterHeader: String?

  package init(
    partition: Int32, offset: Int64, timestamp: Int64, key: [UInt8]?, value: [UInt8]?,
    deadLetterHeader: String? = nil
  ) {
    self.partition = partition
    self.offset = offset
    self.timestamp = timestamp
    self.key = key
    self.value = value
    self.deadLetterHeader = deadLetterHeader
  }
}

/// A dead letter that a record requeues. The header alone does not identify it, because offsets are
/// used again after a log has lost its end.
package struct RequeuedLetter: Hashable, Sendable {
  package var header: ExactText
  package var value: [UInt8]

  package init(header: ExactText, value: [UInt8]) {
    self.header = header
    self.value = value
  }
}

extension LogRecord {
  package var requeuedLetter: RequeuedLetter? {
    deadLetterHeader.map { RequeuedLetter(header: ExactText($0), value: value ?? []) }
  }
}

/// A valid `license.usage.recorded`. Its texts contain neither NUL nor a lone surrogate.
package struct UsageEvent: Sendable {
  package var id: String
  package var source: String
  /// The license.
  package var subject: String
  package var producer: String?
  package var sequence: Int64?
  /// The time in milliseconds since 1970, UTC. It is negative before 1970.
  package var timeMilliseconds: Int64
  package var importBatch: String?
  package var meter: String
  package var quantity: Int64
  /// The domain, cut to 256 bytes. Nil if it is absent or empty.
  package var domain: String?
  package var feature: String?
  /// The trace that the event belongs to, as version 00 of W3C Trace Context writes it.
  package var traceparent: String?

  package init(
    id: String, source: String, subject: String, producer: String? = nil, sequence: Int64? = nil,
    timeMilliseconds: Int64, importBatch: String? = nil, meter: String, quantity: Int64,
    domain: String? = nil, feature: String? = nil, traceparent: String? = nil
  ) {
    self.id = id
    self.source = source
    self.subject = subject
    self.producer = producer
    self.sequence = sequence
    self.timeMilliseconds = timeMilliseconds
    self.importBatch = importBatch
    self.meter = meter
    self.quantity = quantity
    self.domain = domain
    self.feature = feature
    self.traceparent = traceparent
  }
}

extension UsageEvent: Equatable {
  /// Compares byte for byte. `ExactText` explains why `String`'s own equality is not enough.
  package static func == (left: UsageEvent, right: UsageEvent) -> Bool {
    left.texts == right.texts && left.sequence == right.sequence
      && left.timeMilliseconds == right.timeMilliseconds && left.quantity == right.quantity
  }

  private var texts: [ExactText?] {
    [id, source, subject, producer, importBatch, meter, domain, feature, traceparent].map {
      text in text.map { ExactText($0) }
    }
  }
}

/// A valid `license.producer.reported`. It says how many events the producer has accepted, holds
/// and has given up so far.
package struct ProducerReport: Equatable, Sendable {
  package var producer: String
  package var accepted: Int64
  package var pending: Int64
  package var dropped: Int64
  package var isFinal: Bool

  package init(producer: String, accepted: Int64, pending: Int64, dropped: Int64, isFinal: Bool) {
    self.producer = producer
    self.accepted = accepted
    self.pending = pending
    self.dropped = dropped
    self.isFinal = isFinal
  }
}

/// What a record is by itself, without regard to other records.
package enum EventVerdict: Equatable, Sendable {
  case usage(UsageEvent)
  case report(ProducerReport)
  /// A dead letter. `reason` is a word of docs/event-validation.md. `detail` is for people. It
  /// names the member but never its value. `producer` and `sequence` are both present if both can
  /// be read, and otherwise both absent.
  case rejected(reason: String, detail: String, producer: [UInt8]?, sequence: Int64?)
}

/// The settings that decide how the log counts and cannot be read from it.
package struct RecountSettings: Sendable {
  package static let defaultWindow: Int64 = 262_144

  /// `METER_MAX_QUANTITY`.
  package var maxQuantity: Int64
  /// `METER_MAX_EVENT_AGE`, which is not negative.
  package var maxEventAgeMilliseconds: Int64
  /// For how many producers a partition remembers the sequences.
  package var maxProducers: Int
  /// `oldest_time` of each registered batch, in milliseconds since 1970.
  package var importBatches: [ExactText: Int64]
  /// Records that were dead letters for their age when they were counted. A batch that was
  /// registered afterwards does not make them valid.
  package var refusedForAge: Set<LogPosition>
  /// The sizes of a partition's dedupe window, each with the offset from which it applies, in any
  /// order. Below the first offset the default applies.
  package var windows: @Sendable (_ partition: Int32) -> [WindowSize]

  package init(
    maxQuantity: Int64 = 1_000_000_000,
    maxEventAgeMilliseconds: Int64 = 35 * 24 * 3_600_000,
    maxProducers: Int = 4_096,
    importBatches: [ExactText: Int64] = [:],
    refusedForAge: Set<LogPosition> = [],
    windows: @escaping @Sendable (_ partition: Int32) -> [WindowSize] = { _ in [] }
  ) {
    self.maxQuantity = maxQuantity
    self.maxEventAgeMilliseconds = maxEventAgeMilliseconds
    self.maxProducers = maxProducers
    self.importBatches = importBatches
    self.refusedForAge = refusedForAge
    self.windows = windows
  }
}

/// The number of preceding offsets that rule (b) looks at, from an offset on.
package struct WindowSize: Equatable, Sendable {
  package var fromOffset: Int64
  package var size: Int64

  package init(fromOffset: Int64, size: Int64) {
    self.fromOffset = fromOffset
    self.size = size
  }
}
