import Metering

/// Writes times for the header `Date` (RFC 9110, section 5.6.7), such as `Sun, 06 Nov 1994 08:49:37
/// GMT`.
package enum HTTPDate {
  /// The number of bytes of a text.
  package static let length = 29

  /// - Parameter milliseconds: the time in milliseconds since 1970.
  package static func write(_ milliseconds: Int64, to out: UnsafeMutableRawBufferPointer) {
    let days: StaticString = "ThuFriSatSunMonTueWed"
    let months: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"
    // 2026-11-23T18:40:00.123Z
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: UTCTime.length) { time in
      guard let start = time.baseAddress else { return }
      UTCTime.write(milliseconds, to: start)
      func copy(_ from: Int, _ count: Int, to offset: Int) {
        for i in 0..<count { out[offset + i] = time[from + i] }
      }
      func put(_ text: StaticString, _ from: Int, _ count: Int, to offset: Int) {
        for i in 0..<count { out[offset + i] = text.utf8Start[from + i] }
      }
      let day = Int(milliseconds / 86_400_000) % 7
      let month = Int(time[5] - 0x30) * 10 + Int(time[6] - 0x30)
      put(days, day * 3, 3, to: 0)
      put(", ", 0, 2, to: 3)
      copy(8, 2, to: 5)
      put(" ", 0, 1, to: 7)
      put(months, (month - 1) * 3, 3, to: 8)
      put(" ", 0, 1, to: 11)
      copy(0, 4, to: 12)
      put(" ", 0, 1, to: 16)
      copy(11, 8, to: 17)
      put(" GMT", 0, 4, to: 25)
    }
  }

  package static func text(_ milliseconds: Int64) -> String {
    let bytes = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
      write(milliseconds, to: UnsafeMutableRawBufferPointer(buffer))
      count = length
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
