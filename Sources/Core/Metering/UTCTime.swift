/// Writes times as `2026-11-23T18:40:00.123Z`, the only spelling that is written, in the proleptic
/// Gregorian calendar.
package enum UTCTime {
  /// The number of bytes of a text.
  package static let length = 24
  private static let dayMilliseconds: Int64 = 86_400_000

  /// Writes `length` bytes.
  ///
  /// - Parameter milliseconds: the time since 1970. Outside of the years 0000 to 9999, the nearest
  ///   time with a spelling is written.
  package static func write(_ milliseconds: Int64, to out: UnsafeMutablePointer<UInt8>) {
    let time = min(max(milliseconds, -62_167_219_200_000), 253_402_300_799_999)
    let day = floor(time, dayMilliseconds)
    let inDay = time - day * dayMilliseconds
    let (year, month, date) = civil(day)
    digits(year, 4, out)
    out[4] = UInt8(ascii: "-")
    digits(month, 2, out + 5)
    out[7] = UInt8(ascii: "-")
    digits(date, 2, out + 8)
    out[10] = UInt8(ascii: "T")
    digits(inDay / 3_600_000, 2, out + 11)
    out[13] = UInt8(ascii: ":")
    digits(inDay / 60_000 % 60, 2, out + 14)
    out[16] = UInt8(ascii: ":")
    digits(inDay / 1_000 % 60, 2, out + 17)
    out[19] = UInt8(ascii: ".")
    digits(inDay % 1_000, 3, out + 20)
    out[23] = UInt8(ascii: "Z")
  }

  package static func text(_ milliseconds: Int64) -> String {
    String(unsafeUninitializedCapacity: length) { buffer in
      guard let out = buffer.baseAddress else { return 0 }
      write(milliseconds, to: out)
      return length
    }
  }

  /// The time without a fraction if that is zero, such as `2026-11-23T18:40:00Z`.
  package static func brief(_ milliseconds: Int64) -> String {
    let text = text(milliseconds)
    return milliseconds % 1_000 == 0 ? text.prefix(19) + "Z" : text
  }

  /// Only the date, such as `2026-11-23`.
  package static func day(_ milliseconds: Int64) -> String { String(text(milliseconds).prefix(10)) }

  /// Reads a time in the spelling above. Returns nil for any other text.
  package static func milliseconds(_ text: String) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count == length else { return nil }
    func number(_ range: Range<Int>) -> Int64? {
      var value: Int64 = 0
      for byte in bytes[range] {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
        value = value * 10 + Int64(byte - UInt8(ascii: "0"))
      }
      return value
    }
    guard let year = number(0..<4), let month = number(5..<7), let date = number(8..<10),
      let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
      let fraction = number(20..<23)
    else { return nil }
    let result =
      days(year, month, date) * dayMilliseconds + hour * 3_600_000 + minute * 60_000
      + second * 1_000 + fraction
    // A text such as the 31st of June is written differently when it is written again.
    return self.text(result) == text ? result : nil
  }

  /// Whether the text is the date of a day of the years 0001 to 9999, such as `2026-11-23`.
  /// PostgreSQL has no year 0000.
  package static func isDay(_ text: String) -> Bool {
    text.utf8.count == 10 && !text.utf8.starts(with: "0000".utf8)
      && milliseconds(text + "T00:00:00.000Z") != nil
  }

  private static func floor(_ a: Int64, _ b: Int64) -> Int64 { a / b - (a % b < 0 ? 1 : 0) }

  /// The date of a day since 1970. Years are counted from March, so that the leap day is a year's
  /// last (Howard Hinnant's `civil_from_days`).
  private static func civil(_ day: Int64) -> (year: Int64, month: Int64, date: Int64) {
    let shifted = day + 719_468
    let era = floor(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return (
      yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month,
      dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    )
  }

  private static func days(_ year: Int64, _ month: Int64, _ date: Int64) -> Int64 {
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = floor(shiftedYear, 400)
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + date - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
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
