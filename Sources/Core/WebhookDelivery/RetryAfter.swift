/// Reads `Retry-After` (RFC 9110 section 10.2.3), which is a number of seconds or an HTTP date.
package enum RetryAfter {
  /// Longer waits count as this one. Every number up to it can be multiplied without overflow.
  private static let maximumSeconds: Int64 = 1 << 40

  /// The wait in milliseconds, which is never negative. Nil if the value is neither seconds nor a
  /// date.
  ///
  /// Recipients must read all three forms of dates (RFC 9110 section 5.6.7):
  /// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` (RFC 850) and
  /// `Sun Nov  6 08:49:37 1994` (asctime).
  package static func milliseconds(_ value: String, nowMilliseconds: Int64) -> Int64? {
    let text = value.trimmingBlanks
    if !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
      // A number with more digits is simply a very long wait.
      guard let seconds = Int64(text), seconds <= maximumSeconds else {
        return maximumSeconds * 1_000
      }
      return seconds * 1_000
    }
    guard let date = httpDate(text, nowMilliseconds: nowMilliseconds) else { return nil }
    return max(0, date - nowMilliseconds)
  }

  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
  private static let weekdays = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
  ]
  private static let shortWeekdays = weekdays.map { String($0.prefix(3)) }

  /// The time in milliseconds since 1970.
  private static func httpDate(_ text: String, nowMilliseconds: Int64) -> Int64? {
    guard text.utf8.count <= 40 else { return nil }
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    guard let weekday = words.first else { return nil }
    switch words.count {
    case 6 where weekday.hasSuffix(","):
      return words[5] == "GMT" && shortWeekdays.contains(String(weekday.dropLast()))
        ? moment(number(words[3], 4), words[2], number(words[1], 2), words[4]) : nil
    case 4 where weekday.hasSuffix(","):
      let date = words[1].split(separator: "-", omittingEmptySubsequences: false)
      guard words[3] == "GMT", weekdays.contains(String(weekday.dropLast())), date.count == 3,
        let short = number(date[2], 2)
      else { return nil }
      return year(short, nowMilliseconds).flatMap {
        moment($0, date[1], number(date[0], 2), words[2])
      }
    case 5:
      return shortWeekdays.contains(String(weekday))
        ? moment(number(words[4], 4), words[1], number(words[2], 2), words[3]) : nil
    case 6:
      // A blank pads a day of one digit.
      return shortWeekdays.contains(String(weekday)) && words[2].isEmpty
        ? moment(number(words[5], 4), words[1], number(words[3], 1), words[4]) : nil
    default: return nil
    }
  }

  /// "Recipients of a timestamp value in rfc850-date format […] MUST interpret a timestamp that
  /// appears to be more than 50 years in the future as representing the most recent year in the
  /// past that had the same last two digits."
  private static func year(_ short: Int, _ nowMilliseconds: Int64) -> Int? {
    // A year has 365.2425 days here. An error of a day at the turn of a year does not matter for
    // dates that are 50 years away.
    let now = 1970 + Int(nowMilliseconds / 31_556_952_000)
    let year = now - now % 100 + short
    if year > now + 50 { return year - 100 }
    return year + 100 <= now + 50 ? year + 100 : year
  }

  private static func moment(
    _ year: Int?, _ monthName: Substring, _ day: Int?, _ clockText: Substring
  ) -> Int64? {
    let clock = clockText.split(separator: ":", omittingEmptySubsequences: false)
    guard let year, let day, let month = months.firstIndex(of: String(monthName)),
      clock.count == 3, let hour = number(clock[0], 2), let minute = number(clock[1], 2),
      let second = number(clock[2], 2), (1...31).contains(day), hour < 24, minute < 60, second < 61
    else { return nil }
    let seconds = daysSince1970(year, month + 1, day) * 86_400 + hour * 3_600 + minute * 60 + second
    return Int64(seconds) * 1_000
  }

  private static func number(_ text: Substring, _ digits: Int) -> Int? {
    guard text.utf8.count == digits, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    return Int(text)
  }

  /// Howard Hinnant's `days_from_civil` (chrono-compatible low-level date algorithms).
  private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let ofEra = y - era * 400
    let ofYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + ofEra * 365 + ofEra / 4 - ofEra / 100 + ofYear - 719_468
  }
}

extension String {
  fileprivate var trimmingBlanks: String {
    var text = Substring(self)
    while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return String(text)
  }
}
