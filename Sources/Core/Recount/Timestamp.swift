/// Days and milliseconds of the proleptic Gregorian calendar, UTC.
enum Calendar {
  static func isLeap(_ year: Int64) -> Bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
  }

  static func daysInMonth(_ month: Int64, of year: Int64) -> Int64 {
    switch month {
    case 2: return isLeap(year) ? 29 : 28
    case 4, 6, 9, 11: return 30
    default: return 31
    }
  }

  /// The days from 1970-01-01, negative before it. Nil if there is no such day.
  ///
  /// - Parameter year: 1 to 9999.
  static func daysSinceEpoch(year: Int64, month: Int64, day: Int64) -> Int64? {
    guard (1...9999).contains(year), (1...12).contains(month),
      (1...daysInMonth(month, of: year)).contains(day)
    else { return nil }
    // These are the days from 0001-01-01, from whole years, whole months and days.
    let yearsBefore = year - 1
    var days = yearsBefore * 365 + yearsBefore / 4 - yearsBefore / 100 + yearsBefore / 400
    for earlier in 1..<month {
      days += daysInMonth(earlier, of: year)
    }
    days += day - 1
    return days - 719_162  // 1970-01-01 is that many days after 0001-01-01
  }
}

/// Divides and rounds down, so that times before 1970 fall into the window in which they lie and
/// not into the next one. `divisor` is positive.
package func floorDivide(_ dividend: Int64, by divisor: Int64) -> Int64 {
  let quotient = dividend / divisor
  return dividend % divisor < 0 ? quotient - 1 : quotient
}

/// The milliseconds since 1970 of an RFC 3339 time, or nil if `text` is not one.
///
/// The rules are those of docs/event-validation.md. Years are 0001 to 9999 as written. The fraction
/// may have any number of digits and is truncated to the millisecond. `T` and `Z` may be in either
/// case. Offsets go up to ±23:59. Second 60 is accepted if it is 23:59:60 in UTC, and counts as
/// second 59 (a fraction is kept).
package func millisecondsFromRFC3339(_ text: [UInt8]) -> Int64? {
  var cursor = ByteCursor(text[...])
  guard let year = cursor.takeNumber(digits: 4), cursor.take("-"),
    let month = cursor.takeNumber(digits: 2), cursor.take("-"),
    let day = cursor.takeNumber(digits: 2), cursor.take("T") || cursor.take("t"),
    let hour = cursor.takeNumber(digits: 2), cursor.take(":"),
    let minute = cursor.takeNumber(digits: 2), cursor.take(":"),
    let second = cursor.takeNumber(digits: 2)
  else { return nil }

  var millisecond: Int64 = 0
  if cursor.take(".") {
    guard var place = cursor.takeDigit() else { return nil }
    var unit: Int64 = 100
    millisecond = place * unit
    while let next = cursor.takeDigit() {
      place = next
      unit /= 10  // It is 10, 1, then 0, so digits after the third do not count.
      millisecond += place * unit
    }
  }

  var offsetMinutes: Int64 = 0
  if !cursor.take("Z"), !cursor.take("z") {
    let isEast = cursor.take("+")
    guard isEast || cursor.take("-"),
      let offsetHour = cursor.takeNumber(digits: 2), offsetHour <= 23, cursor.take(":"),
      let offsetMinute = cursor.takeNumber(digits: 2), offsetMinute <= 59
    else { return nil }
    offsetMinutes = (offsetHour * 60 + offsetMinute) * (isEast ? 1 : -1)
  }

  guard cursor.isAtEnd, hour <= 23, minute <= 59, second <= 60,
    let days = Calendar.daysSinceEpoch(year: year, month: month, day: day)
  else { return nil }
  let minuteUTC = days * 1440 + hour * 60 + minute - offsetMinutes
  if second == 60 {
    let minuteOfDay = minuteUTC - floorDivide(minuteUTC, by: 1440) * 1440
    guard minuteOfDay == 1439 else { return nil }
  }
  return (minuteUTC * 60 + min(second, 59)) * 1000 + millisecond
}

/// A position in bytes from which parts can be taken.
struct ByteCursor {
  private(set) var rest: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) {
    rest = bytes
  }

  var isAtEnd: Bool { rest.isEmpty }

  /// Takes `character` if it comes next.
  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard rest.first == UInt8(ascii: character) else { return false }
    rest.removeFirst()
    return true
  }

  mutating func takeDigit() -> Int64? {
    guard let byte = rest.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else {
      return nil
    }
    rest.removeFirst()
    return Int64(byte - UInt8(ascii: "0"))
  }

  /// Takes a number of exactly this many digits (at most 18).
  mutating func takeNumber(digits: Int) -> Int64? {
    var number: Int64 = 0
    for _ in 0..<digits {
      guard let digit = takeDigit() else { return nil }
      number = number * 10 + digit
    }
    return number
  }

  /// Takes the bytes before the next `character` and leaves that in place. Returns nil if the
  /// character does not follow.
  mutating func takeUpTo(_ character: Unicode.Scalar) -> ArraySlice<UInt8>? {
    guard let end = rest.firstIndex(of: UInt8(ascii: character)) else { return nil }
    defer { rest = rest[end...] }
    return rest[..<end]
  }

  mutating func takeAll() -> ArraySlice<UInt8> {
    defer { rest = [] }
    return rest
  }
}
