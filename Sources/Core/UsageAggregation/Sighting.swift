import EventCodec
package import Metering

/// Why a validation may be abuse.
package enum Suspicion: UInt8, Sendable {
  case foreignDomain, canceled, suspended

  @inline(__always)
  init?(_ code: VerdictCode) {
    switch code {
    case .domainMismatch: self = .foreignDomain
    case .canceled: self = .canceled
    case .suspended: self = .suspended
    default: return nil
    }
  }
}

/// A suspicious validation, copied out of the log.
package struct Sighting: Sendable {
  package var suspicion: Suspicion
  package var partition: Int32
  package var offset: Int64
  /// The time in milliseconds. It is the record's timestamp if it has one.
  package var recordedAt: Int64
  package var time: Int64
  package var license: Identifier
  /// The domain as the application named it. It is empty if none was named.
  package var domain: String
  package var trace: TraceContext?

  @inline(never)
  init(_ event: DecodedEvent, _ suspicion: Suspicion, _ record: LogRecordView, partition: Int32) {
    self.suspicion = suspicion
    self.partition = partition
    offset = record.offset
    // Producers may set it to values up to 2^63−1. An event's time is bounded by the year 9999.
    recordedAt =
      record.timestamp >= 0
      ? min(record.timestamp, event.time + Limits.eventAgeMilliseconds) : event.time
    time = min(event.time, recordedAt)
    license = Identifier(event.subject.string)
    domain = event.domain.string
    trace = event.traceparent.isAbsent ? nil : TraceContext(event.traceparent.buffer)
  }

  package init(
    suspicion: Suspicion, partition: Int32 = 0, offset: Int64, recordedAt: Int64, time: Int64,
    license: Identifier, domain: String, trace: TraceContext? = nil
  ) {
    self.suspicion = suspicion
    self.partition = partition
    self.offset = offset
    self.recordedAt = recordedAt
    self.time = time
    self.license = license
    self.domain = domain
    self.trace = trace
  }
}
