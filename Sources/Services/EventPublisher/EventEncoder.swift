import Foundation

/// Writes events as CloudEvents into memory of its own, which is used again and again.
///
/// Not thread-safe; the spool's lock guards it.
struct EventEncoder: ~Copyable {
  /// No event is longer: every text is bounded, and a byte becomes six at most.
  static let capacity = 32_768

  private let start: UnsafeMutablePointer<UInt8>
  private var count = 0
  private var isBad = false
  /// The second whose text `dateText` holds.
  private var second = Int64.min
  private let dateText: UnsafeMutablePointer<UInt8>

  init() {
    start = .allocate(capacity: Self.capacity)
    dateText = .allocate(capacity: 19)
  }

  deinit {
    start.deallocate()
    dateText.deallocate()
  }

  /// What was encoded last; valid until the next.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

  // MARK: Events

  /// Nil: encoded. `defaultID` is written where the event has none, the number behind it.
  mutating func encode(
    _ event: UsageEvent, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    guard (0...1_000_000_000).contains(event.quantity) else { return .quantity }
    guard Self.isMeter(event.meter) else { return .meter }
    if let reason = envelope(
      "license.usage.recorded", event.id, event.source, event.subject, event.time ?? now,
      producer, sequence)
    {
      return reason
    }
    put("\"meter\":")
    text(event.meter, 64)
    put(",\"quantity\":")
    integer(event.quantity)
    optional(",\"domain\":", event.domain, 256)
    optional(",\"feature\":", event.feature, 256)
    put("}}")
    return isBad ? .text : nil
  }

  mutating func encode(
    _ event: ValidationEvent, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    if let reason = envelope(
      "license.validation.performed", event.id, event.source, event.subject, event.time ?? now,
      producer, sequence)
    {
      return reason
    }
    put("\"code\":")
    text(event.code, 64)
    put(event.isValid ? ",\"valid\":true" : ",\"valid\":false")
    optional(",\"domain\":", event.domain, 256)
    put(event.mode == .online ? ",\"mode\":\"online\"" : ",\"mode\":\"offline\"")
    optional(",\"client_ip\":", event.clientIP, 64)
    optional(",\"sdk\":", event.sdk, 128)
    put(",\"duration_us\":")
    integer(max(event.duration, 0))
    put("}}")
    return isBad ? .text : nil
  }

  /// A ledger's report of one topic.
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
    text(producer, 256)
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
    _ producer: String, _ sequence: Int64
  ) -> PublishOutcome.Reason? {
    guard (1...512).contains(subject.utf8.count) else { return .subject }
    guard (1...1_024).contains(source.utf8.count) else { return .source }
    // The years that RFC 3339 can spell.
    guard (-62_135_596_800_000...253_402_300_799_999).contains(milliseconds) else { return .time }
    count = 0
    isBad = false
    put("{\"specversion\":\"1.0\",\"id\":")
    if let id {
      guard (1...1_024).contains(id.utf8.count) else { return .id }
      text(id, 1_024)
    } else {
      put("\"")
      unquoted(producer)
      put("-")
      integer(sequence)
      put("\"")
    }
    put(",\"source\":")
    text(source, 1_024)
    put(",\"type\":\"")
    put(type)
    put("\",\"subject\":")
    text(subject, 512)
    put(",\"time\":\"")
    time(milliseconds)
    put("\",\"datacontenttype\":\"application/json\",\"producer\":\"")
    unquoted(producer)
    put("\",\"sequence\":")
    integer(sequence)
    put(",\"data\":{")
    return nil
  }

  static func isMeter(_ name: String) -> Bool {
    var isFirst = true
    for byte in name.utf8 {
      let isLetter = (0x61...0x7A).contains(byte)
      guard isLetter || (!isFirst && ((0x30...0x39).contains(byte) || byte == 0x5F)) else {
        return false
      }
      isFirst = false
    }
    return (1...64).contains(name.utf8.count)
  }

  // MARK: Bytes

  private mutating func put(_ text: StaticString) {
    (start + count).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    count += text.utf8CodeUnitCount
  }

  /// Of letters that need no escape.
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
      // Not within a character.
      if end < bytes.count { while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 } }
      start[count] = UInt8(ascii: "\"")
      count += 1
      for i in 0..<end {
        let byte = bytes[i]
        if byte >= 0x20, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
          start[count] = byte
          count += 1
        } else {
          escape(byte)
        }
      }
      start[count] = UInt8(ascii: "\"")
      count += 1
    }
  }

  private mutating func escape(_ byte: UInt8) {
    start[count] = UInt8(ascii: "\\")
    if byte >= 0x20 {
      start[count + 1] = byte
      count += 2
      return
    }
    // NUL is no character that PostgreSQL could store.
    if byte == 0 { isBad = true }
    let digits: StaticString = "0123456789abcdef"
    start[count + 1] = UInt8(ascii: "u")
    start[count + 2] = UInt8(ascii: "0")
    start[count + 3] = UInt8(ascii: "0")
    start[count + 4] = digits.utf8Start[Int(byte >> 4)]
    start[count + 5] = digits.utf8Start[Int(byte & 15)]
    count += 6
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

  /// `2026-11-23T18:40:00.123Z`; the seconds are worked out once a second.
  private mutating func time(_ milliseconds: Int64) {
    let floor = milliseconds >= 0 ? milliseconds / 1_000 : (milliseconds - 999) / 1_000
    if floor != second {
      second = floor
      var time = time_t(floor)
      var parts = tm()
      gmtime_r(&time, &parts)
      func put(_ value: Int32, _ at: Int, _ digits: Int, _ behind: UInt8?) {
        var rest = value
        for i in stride(from: at + digits - 1, through: at, by: -1) {
          dateText[i] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
          rest /= 10
        }
        if let behind { dateText[at + digits] = behind }
      }
      put(parts.tm_year + 1_900, 0, 4, UInt8(ascii: "-"))
      put(parts.tm_mon + 1, 5, 2, UInt8(ascii: "-"))
      put(parts.tm_mday, 8, 2, UInt8(ascii: "T"))
      put(parts.tm_hour, 11, 2, UInt8(ascii: ":"))
      put(parts.tm_min, 14, 2, UInt8(ascii: ":"))
      put(parts.tm_sec, 17, 2, nil)
    }
    (start + count).update(from: dateText, count: 19)
    let fraction = milliseconds - floor * 1_000
    start[count + 19] = UInt8(ascii: ".")
    start[count + 20] = UInt8(ascii: "0") + UInt8(fraction / 100)
    start[count + 21] = UInt8(ascii: "0") + UInt8(fraction / 10 % 10)
    start[count + 22] = UInt8(ascii: "0") + UInt8(fraction % 10)
    start[count + 23] = UInt8(ascii: "Z")
    count += 24
  }
}
