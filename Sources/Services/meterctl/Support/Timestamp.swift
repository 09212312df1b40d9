/// RFC 3339 from milliseconds since 1970, without a `String` an event.
enum Timestamp {
  static let length = 24

  /// `2026-11-23T18:40:00.123Z`
  static func bytes(_ milliseconds: Int64) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
      write(milliseconds, to: buffer.baseAddress!)
      count = length
    }
  }

  /// Writes `length` bytes. Years 0 to 9999.
  static func write(_ milliseconds: Int64, to out: UnsafeMutablePointer<UInt8>) {
    let day = floor(milliseconds, 86_400_000)
    let ofDay = milliseconds - day * 86_400_000
    let (year, month, date) = civil(day)
    digits(year, 4, out)
    out[4] = UInt8(ascii: "-")
    digits(month, 2, out + 5)
    out[7] = UInt8(ascii: "-")
    digits(date, 2, out + 8)
    out[10] = UInt8(ascii: "T")
    digits(ofDay / 3_600_000, 2, out + 11)
    out[13] = UInt8(ascii: ":")
    digits(ofDay / 60_000 % 60, 2, out + 14)
    out[16] = UInt8(ascii: ":")
    digits(ofDay / 1_000 % 60, 2, out + 17)
    out[19] = UInt8(ascii: ".")
    digits(ofDay % 1_000, 3, out + 20)
    out[23] = UInt8(ascii: "Z")
  }

  private static func floor(_ a: Int64, _ b: Int64) -> Int64 { a / b - (a % b < 0 ? 1 : 0) }

  /// Howard Hinnant's `civil_from_days` (chrono-compatible low-level date algorithms).
  private static func civil(_ days: Int64) -> (Int64, Int64, Int64) {
    let z = days + 719_468
    let era = floor(z, 146_097)
    let ofEra = z - era * 146_097
    let yearOfEra = (ofEra - ofEra / 1_460 + ofEra / 36_524 - ofEra / 146_096) / 365
    let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * ofYear + 2) / 153
    let day = ofYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }

  @inline(__always)
  private static func digits(_ value: Int64, _ count: Int, _ out: UnsafeMutablePointer<UInt8>) {
    var value = value
    for i in stride(from: count - 1, through: 0, by: -1) {
      out[i] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value % 10)
      value /= 10
    }
  }
}
