/// Converts RFC 3339 to milliseconds since 1970-01-01T00:00:00Z in the proleptic Gregorian
/// calendar.
package enum Timestamp {
  /// The last `YYYY-MM-DDTHH:MM` that was read, with its value. Neighboring events usually share
  /// their minute.
  package struct Memory {
    fileprivate var first: UInt64 = 0
    fileprivate var second: UInt64 = 0
    /// The minutes since 1970 before the offset is applied.
    fileprivate var minutes = 0

    package init() {}
  }

  /// - Returns: nil if the text is not RFC 3339 as `docs/event-validation.md` reads it. Digits of
  ///   the fraction after the third are dropped.
  package static func milliseconds(_ text: UnsafeBufferPointer<UInt8>) -> Int64? {
    var memory = Memory()
    return milliseconds(text, &memory)
  }

  package static func milliseconds(
    _ text: UnsafeBufferPointer<UInt8>, _ memory: inout Memory
  ) -> Int64? {
    guard text.count >= 20 else { return nil }
    let bytes = UnsafeRawPointer(text.baseAddress!)
    let first = bytes.loadUnaligned(as: UInt64.self)
    let second = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    if first != memory.first || second != memory.second {
      guard let minutes = civilMinutes(text) else { return nil }
      memory.first = first
      memory.second = second
      memory.minutes = minutes
    }
    @inline(__always) func two(_ i: Int) -> Int? {
      let a = text[i] &- 0x30
      let b = text[i + 1] &- 0x30
      return a < 10 && b < 10 ? Int(a) * 10 + Int(b) : nil
    }
    guard text[16] == 0x3A, let second = two(17), second <= 60 else { return nil }

    var i = 19
    var milliseconds = 0
    if text[i] == 0x2E {
      i += 1
      let first = i
      while i < text.count, text[i] &- 0x30 < 10 {
        if i - first < 3 { milliseconds = milliseconds * 10 + Int(text[i] &- 0x30) }
        i += 1
      }
      if i == first { return nil }
      for _ in min(i - first, 3)..<3 { milliseconds *= 10 }
    }
    guard i < text.count else { return nil }

    var offsetMinutes = 0
    if text[i] | 0x20 == 0x7A {
      guard i + 1 == text.count else { return nil }
    } else {
      guard text[i] == 0x2B || text[i] == 0x2D, i + 6 == text.count, text[i + 3] == 0x3A,
        let hours = two(i + 1), let minutes = two(i + 4), hours <= 23, minutes <= 59
      else { return nil }
      offsetMinutes = (hours * 60 + minutes) * (text[i] == 0x2D ? -1 : 1)
    }
    let minutes = memory.minutes - offsetMinutes
    if second == 60 {
      // Leap seconds are inserted only at the end of a UTC day.
      let minuteOfDay = ((minutes % 1_440) + 1_440) % 1_440
      guard minuteOfDay == 1_439 else { return nil }
      return Int64(minutes) * 60_000 + 59_000 + Int64(milliseconds)
    }
    return Int64(minutes) * 60_000 + Int64(second * 1_000 + milliseconds)
  }

  /// Reads `YYYY-MM-DDTHH:MM`, the first 16 bytes.
  private static func civilMinutes(_ text: UnsafeBufferPointer<UInt8>) -> Int? {
    func two(_ i: Int) -> Int? {
      let a = text[i] &- 0x30
      let b = text[i + 1] &- 0x30
      return a < 10 && b < 10 ? Int(a) * 10 + Int(b) : nil
    }
    guard text[4] == 0x2D, text[7] == 0x2D, text[10] | 0x20 == 0x74, text[13] == 0x3A,
      let century = two(0), let yearOfCentury = two(2), let month = two(5), let day = two(8),
      let hour = two(11), let minute = two(14)
    else { return nil }
    let year = century * 100 + yearOfCentury
    guard year >= 1, (1...12).contains(month), day >= 1, day <= daysInMonth(year, month),
      hour <= 23, minute <= 59
    else { return nil }
    return daysFromCivil(year, month, day) * 1_440 + hour * 60 + minute
  }

  private static func daysInMonth(_ year: Int, _ month: Int) -> Int {
    switch month {
    case 4, 6, 9, 11: 30
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    default: 31
    }
  }

  /// The days since 1970-01-01, with the algorithm `days_from_civil` from Howard Hinnant's
  /// "chrono-Compatible Low-Level Date Algorithms".
  package static func daysFromCivil(_ year: Int, _ month: Int, _ day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }
}
