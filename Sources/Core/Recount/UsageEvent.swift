import Metering

/// A record as it lies in the log.
package struct LogRecord: Equatable, Sendable {
  package var partition: Int32
  package var offset: Int64
  /// Milliseconds since 1970; negative where the record has none.
  package var timestamp: Int64
  package var key: [UInt8]?
  /// Nil is a tombstone; the empty value is a value.
  package var value: [UInt8]?
  /// The value of the header `dead-letter`: which dead letter this record requeues, if it does.
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

/// A valid `license.usage.recorded`. Its texts hold neither NUL nor a lone surrogate.
package struct UsageEvent: Sendable {
  package var id: String
  package var source: String
  /// The license.
  package var subject: String
  package var producer: String?
  package var sequence: Int64?
  /// Milliseconds since 1970, UTC; negative before.
  package var timeMilliseconds: Int64
  package var importBatch: String?
  package var meter: String
  package var quantity: Int64
  /// Cut to 256 bytes, as it is counted; nil where absent or empty.
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
  /// Byte for byte; see `ExactText` for why `String`'s own equality will not do.
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

/// A valid `license.producer.reported`: what a producer accepted, holds and gave up, so far.
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

/// What a record is, by itself, without regard to its neighbors.
package enum EventVerdict: Equatable, Sendable {
  case usage(UsageEvent)
  case report(ProducerReport)
  /// A dead letter. `reason` is a word of docs/event-validation.md; `detail` is for people, says
  /// which member, and never holds what stood there. `producer` and `sequence` are there both or
  /// not at all: where they could be read.
  case rejected(reason: String, detail: String, producer: [UInt8]?, sequence: Int64?)
}

/// What cannot be read from the log but decides how it counts.
package struct RecountSettings: Sendable {
  package static let defaultWindow: Int64 = 262_144

  /// `METER_MAX_QUANTITY`.
  package var maxQuantity: Int64
  /// `METER_MAX_EVENT_AGE`; not negative.
  package var maxEventAgeMilliseconds: Int64
  /// How many producers a partition remembers the sequences of.
  package var maxProducers: Int
  /// `oldest_time` of each registered batch, in milliseconds since 1970.
  package var importBatches: [ExactText: Int64]
  /// Records that were dead letters for their age when they were counted: a batch that was
  /// registered afterwards does not make them valid.
  package var refusedForAge: Set<LogPosition>
  /// The sizes of a partition's dedupe window, each with the offset from which it holds. Order
  /// does not matter. Below the first offset the default holds.
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

/// How many preceding offsets rule (b) looks at, from an offset on.
package struct WindowSize: Equatable, Sendable {
  package var fromOffset: Int64
  package var size: Int64

  package init(fromOffset: Int64, size: Int64) {
    self.fromOffset = fromOffset
    self.size = size
  }
}
