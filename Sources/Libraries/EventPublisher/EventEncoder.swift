import Metering

/// Writes events as CloudEvents into its own memory, which is used again for each event.
///
/// It is not thread-safe. The spool's lock guards it.
struct EventEncoder: ~Copyable {
  /// No event is longer, because every text is bounded and a byte becomes at most six.
  static let capacity = 32_768

  private let start: UnsafeMutablePointer<UInt8>
  private var count = 0
  private var isBad = false
  /// The largest quantity of an event.
  var maximumQuantity = Limits.quantity

  init() {
    start = .allocate(capacity: Self.capacity)
  }

  deinit { start.deallocate() }

  /// The last encoded event. It is valid until the next one is encoded.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

  // MARK: Events

  /// Returns nil if the event was encoded. If the event has no id, `defaultID` and the number after
  /// it are written.
  mutating func encode(
    _ event: UsageEvent, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    guard (0...maximumQuantity).contains(event.quantity) else { return .quantity }
    guard MeterName.isValid(event.meter) else { return .meter }
    if let reason = envelope(
      "license.usage.recorded", event.id, event.source, event.subject, event.time ?? now,
      producer, sequence, event.traceparent)
    {
      return reason
    }
    put("\"meter\":")
    text(event.meter, Limits.meterBytes)
    put(",\"quantity\":")
    integer(event.quantity)
    optional(",\"domain\":", event.domain, Limits.dimensionBytes)
    optional(",\"feature\":", event.feature, Limits.dimensionBytes)
    put("}}")
    return isBad ? .text : nil
  }

  mutating func encode(
    _ event: ValidationEvent, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    if let reason = envelope(
      "license.validation.performed", event.id, event.source, event.subject, event.time ?? now,
      producer, sequence, event.traceparent)
    {
      return reason
    }
    put("\"code\":")
    text(event.code, 64)
    put(event.isValid ? ",\"valid\":true" : ",\"valid\":false")
    optional(",\"domain\":", event.domain, Limits.dimensionBytes)
    put(event.mode == .online ? ",\"mode\":\"online\"" : ",\"mode\":\"offline\"")
    optional(",\"client_ip\":", event.clientIP, 64)
    optional(",\"sdk\":", event.sdk, 128)
    put(",\"duration_us\":")
    integer(max(event.duration, 0))
    put("}}")
    return isBad ? .text : nil
  }

  /// Encodes the ledger's report for one topic.
  mutating func encodeReport(
    producer: String, number: Int64, accepted: Int64, pending: Int64, dropped: Int64,
    isFinal: Bool, now: Int64
  ) {
    count = 0
    isBad = false
    put("{\"specversion\":\"1.0\",\"id\":\"report-")
    integer(now)
    put("-")
    integer(number)
    put("\",\"source\":\"/publisher\",\"type\":\"license.producer.reported\",\"time\":\"")
    time(now)
    put("\",\"datacontenttype\":\"application/json\",\"producer\":")
    text(producer, Limits.producerBytes)
    put(",\"data\":{\"accepted\":")
    integer(accepted)
    put(",\"pending\":")
    integer(pending)
    put(",\"dropped\":")
    integer(dropped)
    put(isFinal ? ",\"final\":true}}" : ",\"final\":false}}")
  }

  private mutating func envelope(
    _ type: StaticString, _ id: String?, _ source: String, _ subject: String, _ milliseconds: Int64,
    _ producer: String, _ sequence: Int64, _ traceparent: String?
  ) -> PublishOutcome.Reason? {
    guard (1...Limits.subjectBytes).contains(subject.utf8.count) else { return .subject }
    guard (1...Limits.identityBytes).contains(source.utf8.count) else { return .source }
    // These are the years that RFC 3339 can write.
    guard (-62_135_596_800_000...253_402_300_799_999).contains(milliseconds) else { return .time }
    count = 0
    isBad = false
    put("{\"specversion\":\"1.0\",\"id\":")
    if let id {
      guard (1...Limits.identityBytes).contains(id.utf8.count) else { return .id }
      text(id, Limits.identityBytes)
    } else {
      put("\"")
      unquoted(producer)
      put("-")
      integer(sequence)
      put("\"")
    }
    put(",\"source\":")
    text(source, Limits.identityBytes)
    put(",\"type\":\"")
    put(type)
    put("\",\"subject\":")
    text(subject, Limits.subjectBytes)
    put(",\"time\":\"")
    time(milliseconds)
    put("\",\"datacontenttype\":\"application/json\",\"producer\":\"")
    unquoted(producer)
    put("\",\"sequence\":")
    integer(sequence)
    if let traceparent, let trace = TraceContext(traceparent) {
      put(",\"traceparent\":\"")
      trace.write(to: start + count)
      count += TraceContext.length
      put("\"")
    }
    put(",\"data\":{")
    return nil
  }

  // MARK: Bytes

  private mutating func put(_ text: StaticString) {
    (start + count).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    count += text.utf8CodeUnitCount
  }

  /// Appends a text that needs no escapes.
  private mutating func unquoted(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return }
      (start + count).update(from: base, count: bytes.count)
      count += bytes.count
    }
  }

  private mutating func optional(_ name: StaticString, _ value: String?, _ maximumBytes: Int) {
    guard let value, !value.isEmpty else { return }
    put(name)
    text(value, maximumBytes)
  }

  private mutating func text(_ value: String, _ maximumBytes: Int) {
    var value = value
    value.withUTF8 { bytes in
      var end = min(bytes.count, maximumBytes)
      // A character is not cut.
      if end < bytes.count { while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 } }
      start[count] = UInt8(ascii: "\"")
      count += 1
      for i in 0..<end {
        let byte = bytes[i]
        if JSONEscape.isNeeded(byte) {
          // PostgreSQL cannot store NUL.
          if byte == 0 { isBad = true }
          count += JSONEscape.write(byte, to: start + count)
        } else {
          start[count] = byte
          count += 1
        }
      }
      start[count] = UInt8(ascii: "\"")
      count += 1
    }
  }

  private mutating func integer(_ value: Int64) {
    var rest = value.magnitude
    if value < 0 {
      start[count] = UInt8(ascii: "-")
      count += 1
    }
    var length = 1
    var shortened = rest
    while shortened >= 10 {
      shortened /= 10
      length += 1
    }
    var i = count + length
    count = i
    repeat {
      i -= 1
      start[i] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    } while rest > 0
  }

  private mutating func time(_ milliseconds: Int64) {
    UTCTime.write(milliseconds, to: start + count)
    count += UTCTime.length
  }
}
