/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or an HTTP date.
package enum RetryAfter {
  /// The wait in milliseconds, not negative; nil for anything else than the two forms. Only IMF-fixdate of the three date forms:
  /// senders must use no other.
  package static func milliseconds(_ value: String, nowMilliseconds: Int64) -> Int64? {
    let text = value.trimmingBlanks
    if !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
      // More digits than fit are simply very long.
      guard let seconds = Int64(text), seconds <= 1 << 40 else { return (1 << 40) * 1_000 }
      return seconds * 1_000
    }
    guard let date = httpDate(text) else { return nil }
    return max(0, date - nowMilliseconds)
  }

  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
  private static let weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

  /// `Sun, 06 Nov 1994 08:49:37 GMT`, in milliseconds since 1970.
  private static func httpDate(_ text: String) -> Int64? {
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 6, text.utf8.count == 29, words[5] == "GMT", words[0].hasSuffix(","),
      weekdays.contains(String(words[0].dropLast())),
      let day = number(words[1], 2), let month = months.firstIndex(of: String(words[2])),
      let year = number(words[3], 4)
    else { return nil }
    let clock = words[4].split(separator: ":", omittingEmptySubsequences: false)
    guard clock.count == 3, let hour = number(clock[0], 2), let minute = number(clock[1], 2),
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
