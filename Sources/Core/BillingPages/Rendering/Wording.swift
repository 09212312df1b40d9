/// Numbers, durations and counts in words.
package enum Wording {
  /// `1,234,567`, with a typographic minus sign.
  package static func number(_ value: Int64) -> String {
    var digits = Array(String(value.magnitude))
    var place = digits.count - 3
    while place > 0 {
      digits.insert(",", at: place)
      place -= 3
    }
    return (value < 0 ? "−" : "") + String(digits)
  }

  /// The first characters of a text, if a title has no room for all of it.
  static func shortened(_ text: String, to length: Int = 60) -> String {
    text.count <= length ? text : text.prefix(length - 1) + "…"
  }

  /// `1 license`, `2,000 licenses`. Words whose plural is not a plain s come with their plural.
  package static func count(_ value: Int64, _ noun: String, plural: String? = nil) -> String {
    "\(number(value)) \(value == 1 ? noun : plural ?? noun + "s")"
  }

  /// `950`, `1.2k`, `34M`: at most three digits, for the axis of a chart.
  static func compact(_ value: Int64) -> String {
    let units: [(Int64, String)] = [
      (1_000_000_000_000_000_000, "E"), (1_000_000_000_000_000, "P"), (1_000_000_000_000, "T"),
      (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"),
    ]
    for (size, unit) in units where value.magnitude >= size.magnitude {
      let tenths = value / (size / 10)
      return tenths.magnitude < 100 && tenths % 10 != 0
        ? "\(tenths / 10).\((tenths % 10).magnitude)\(unit)" : "\(tenths / 10)\(unit)"
    }
    return String(value)
  }

  /// `45 s`, `3 min`, `5 h`, `12 days`.
  package static func duration(milliseconds: Int64) -> String {
    let seconds = milliseconds / 1000
    return switch seconds {
    case ..<60: "\(max(0, seconds)) s"
    case ..<3600: "\(seconds / 60) min"
    case ..<172_800: "\(seconds / 3600) h"
    default: "\(number(seconds / 86_400)) days"
    }
  }

  /// `3 min ago`, `in 5 h`, `just now`.
  package static func relative(_ time: Int64, now: Int64) -> String {
    let distance = now.subtractingReportingOverflow(time)
    guard !distance.overflow else { return "never" }
    let ago = distance.partialValue
    if (-5_000..<5_000).contains(ago) { return "just now" }
    return ago > 0 ? "\(duration(milliseconds: ago)) ago" : "in \(duration(milliseconds: -ago))"
  }

  /// The change from `before` to `now` in words: `12 % more than`, `the same as`.
  package static func change(_ now: Int64, before: Int64) -> String {
    if now == before { return "the same as" }
    guard before > 0 else { return "more than" }
    let percent = (Int128(now) - Int128(before)) * 100 / Int128(before)
    if percent >= 1000 { return "\(percent / 100 + 1) times" }
    if percent == 0 { return "about the same as" }
    return percent > 0 ? "\(percent) % more than" : "\(-percent) % less than"
  }

  /// A whole percentage, rounded down, so that 100 appears only when it is reached.
  package static func percent(_ part: Int64, of whole: Int64) -> Int64 {
    guard whole > 0 else { return part > 0 ? 100 : 0 }
    return Int64(clamping: Int128(part) * 100 / Int128(whole))
  }

  /// The words for an alert's type: `license.limit_exceeded` becomes "Limit exceeded".
  package static func alert(_ type: String) -> String {
    let words = (type.split(separator: ".").last ?? "").replacing("_", with: " ")
    return words.prefix(1).uppercased() + words.dropFirst()
  }
}
