import Glibc
import Metering

/// A record's value under construction: bytes in a buffer of fixed size, which is reused.
///
/// It is a class for its `deinit`. It has one owner and is used by one thread. Writing past the end
/// traps.
final class EventBytes {
  private let base: UnsafeMutablePointer<UInt8>
  private let capacity: Int
  private(set) var count = 0

  init(capacity: Int) {
    self.capacity = capacity
    base = .allocate(capacity: capacity)
  }

  deinit { base.deallocate() }

  /// Valid until the next write.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  @inline(__always)
  func removeAll() { count = 0 }

  @inline(__always)
  func append(_ text: StaticString) {
    append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  @inline(__always)
  func append(_ other: UnsafeRawBufferPointer) {
    precondition(other.count <= capacity - count)
    guard let start = other.baseAddress else { return }
    memcpy(base + count, start, other.count)
    count += other.count
  }

  @inline(__always)
  func append(_ other: [UInt8]) { other.withUnsafeBytes { append($0) } }

  @inline(__always)
  func append(byte: UInt8) {
    precondition(count < capacity)
    base[count] = byte
    count += 1
  }

  /// Appends a decimal number, filled up with zeros to `width`.
  @inline(__always)
  func append(_ number: UInt64, width: Int = 1) {
    var digits = 1
    var rest = number
    while rest >= 10 {
      rest /= 10
      digits += 1
    }
    digits = max(digits, width)
    precondition(digits <= capacity - count)
    rest = number
    var place = base + count + digits
    for _ in 0..<digits {
      place -= 1
      place.pointee = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    count += digits
  }

  /// Appends a time such as `2026-11-23T18:40:00.123Z`.
  func append(time milliseconds: Int64) {
    precondition(UTCTime.length <= capacity - count)
    UTCTime.write(milliseconds, to: base + count)
    count += UTCTime.length
  }

  /// Appends `count` digits of Crockford's base 32, from the lowest bits of `value`.
  @inline(__always)
  func append(base32 value: UInt64, digits: Int) {
    precondition(digits <= capacity - count)
    for i in 0..<digits {
      let place = value >> UInt64(5 * (digits - 1 - i)) & 31
      base[count + i] = Self.alphabet.utf8Start[Int(place)]
    }
    count += digits
  }

  /// Appends the text as a JSON string, with its quotes.
  func append(quoted text: String) {
    append(byte: UInt8(ascii: "\""))
    for byte in text.utf8 {
      if JSONEscape.isNeeded(byte) {
        precondition(JSONEscape.longest <= capacity - count)
        count += JSONEscape.write(byte, to: base + count)
      } else {
        append(byte: byte)
      }
    }
    append(byte: UInt8(ascii: "\""))
  }

  private static let alphabet: StaticString = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
}

/// A producer's report of what it accepted.
struct ProducerReport {
  var producer: String
  var source: String
  var id: String
  var accepted: Int64
  var pending: Int64
  var dropped: Int64
  var isFinal: Bool

  func write(to out: EventBytes, now: Int64) {
    out.removeAll()
    out.append("{\"specversion\":\"1.0\",\"id\":")
    out.append(quoted: id)
    out.append(",\"source\":")
    out.append(quoted: source)
    out.append(",\"type\":\"license.producer.reported\",\"time\":\"")
    out.append(time: now)
    out.append("\",\"datacontenttype\":\"application/json\",\"producer\":")
    out.append(quoted: producer)
    out.append(",\"data\":{\"accepted\":")
    out.append(UInt64(accepted))
    out.append(",\"pending\":")
    out.append(UInt64(pending))
    out.append(",\"dropped\":")
    out.append(UInt64(dropped))
    out.append(isFinal ? ",\"final\":true}}" : ",\"final\":false}}")
  }
}
