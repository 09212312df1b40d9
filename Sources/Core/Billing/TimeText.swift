import Metering

/// Reads and writes times for the API.
package enum TimeText {
  /// Writes RFC 3339 with `Z`, such as `2026-11-01T00:00:00Z`. Milliseconds are written only if
  /// they are not 0.
  ///
  /// - Parameter milliseconds: the time in milliseconds since 1970.
  package static func write(_ milliseconds: Int64) -> String { UTCTime.brief(milliseconds) }

  /// Reads an RFC 3339 time with any offset (`2026-11-01T01:00:00+01:00`) as milliseconds since
  /// 1970. Digits of the fraction after the third must be zeros. The result is nil for any other
  /// text, for a leap second, and outside of the years 0001 to 9999.
  package static func read(_ text: String) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count >= 20, bytes.count <= 48, bytes[10] | 0x20 == UInt8(ascii: "t") else {
      return nil
    }
    var i = 19
    var fraction: [UInt8] = []
    if bytes[i] == UInt8(ascii: ".") {
      i += 1
      while i < bytes.count, isDigit(bytes[i]) {
        fraction.append(bytes[i])
        i += 1
      }
      guard !fraction.isEmpty, fraction.dropFirst(3).allSatisfy({ $0 == UInt8(ascii: "0") }) else {
        return nil
      }
    }
    guard let offset = offsetMinutes(bytes[i...]) else { return nil }
    while fraction.count < 3 { fraction.append(UInt8(ascii: "0")) }
    var spelling = bytes[..<19] + [UInt8(ascii: ".")] + fraction[..<3] + [UInt8(ascii: "Z")]
    spelling[10] = UInt8(ascii: "T")
    guard let local = UTCTime.milliseconds(String(decoding: spelling, as: UTF8.self)) else {
      return nil
    }
    let time = local - offset * 60_000
    return (-62_135_596_800_000...253_402_300_799_999).contains(time) ? time : nil
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private static func offsetMinutes(_ bytes: ArraySlice<UInt8>) -> Int64? {
    let bytes = Array(bytes)
    if bytes.count == 1, bytes[0] | 0x20 == UInt8(ascii: "z") { return 0 }
    guard bytes.count == 6, bytes[3] == UInt8(ascii: ":"),
      [bytes[1], bytes[2], bytes[4], bytes[5]].allSatisfy(isDigit)
    else { return nil }
    let hours = Int64(bytes[1] - 0x30) * 10 + Int64(bytes[2] - 0x30)
    let minutes = Int64(bytes[4] - 0x30) * 10 + Int64(bytes[5] - 0x30)
    guard hours <= 23, minutes <= 59 else { return nil }
    switch bytes[0] {
    case UInt8(ascii: "+"): return hours * 60 + minutes
    case UInt8(ascii: "-"): return -(hours * 60 + minutes)
    default: return nil
    }
  }
}
