import Foundation
import Metering
import Recount
import Testing

@Suite("Times in the format of RFC 3339")
struct TimestampTests {
  private func milliseconds(_ text: String) -> Int64? { millisecondsFromRFC3339(bytes(text)) }

  static let known: [(String, Int64)] = [
    ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00.001Z", 1),
    ("1969-12-31T23:59:59.999Z", -1), ("0001-01-01T00:00:00Z", -62_135_596_800_000),
    ("9999-12-31T23:59:59.999Z", 253_402_300_799_999), ("2000-02-29T12:00:00Z", 951_825_600_000),
    ("2026-11-23T18:40:00Z", sampleTime), ("2026-11-23t18:40:00z", sampleTime),
    ("2026-11-23T20:40:00+02:00", sampleTime), ("2026-11-23T13:10:00-05:30", sampleTime),
    ("2026-11-23T18:40:00-00:00", sampleTime), ("2026-11-24T18:39:00+23:59", sampleTime),
    ("2026-11-23T18:40:00.1Z", sampleTime + 100), ("2026-11-23T18:40:00.12Z", sampleTime + 120),
    ("2026-11-23T18:40:00.123999999999999999999999Z", sampleTime + 123),
    ("2026-11-23T18:40:00.0009Z", sampleTime), ("2016-12-31T23:59:60Z", 1_483_228_799_000),
    ("2016-12-31T23:59:60.25Z", 1_483_228_799_250),
    ("2016-12-31T15:59:60-08:00", 1_483_228_799_000),
    ("2017-01-01T05:29:60+05:30", 1_483_228_799_000), ("1985-04-12T23:59:60Z", 482_198_399_000),
    ("0001-01-01T00:00:00+01:00", -62_135_600_400_000),
    ("9999-12-31T23:59:59-01:00", 253_402_304_399_000),
    ("1600-02-29T00:00:00Z", -11_670_998_400_000),
  ]

  @Test("A time is read as its milliseconds since 1970", arguments: known)
  func readsKnownTimes(text: String, expected: Int64) {
    #expect(milliseconds(text) == expected)
  }

  static let refused: [String] = [
    "", " ", "2026-11-23", "2026-11-23T18:40:00", "2026-11-23T18:40Z", "2026-11-23 18:40:00Z",
    "2026-11-23T18:40:00.Z", "2026-11-23T18:40:00,5Z", "2026-11-23T18:40:00+0200",
    "2026-11-23T18:40:00+02", "2026-11-23T18:40:00+24:00", "2026-11-23T18:40:00+02:60",
    "2026-11-23T18:40:00+2:00", "2026-11-23T24:00:00Z", "2026-11-23T18:60:00Z",
    "2026-11-23T18:40:60Z", "2026-11-23T18:40:61Z", "2016-12-31T23:59:61Z",
    "2016-12-31T23:59:60+01:00", "2016-12-31T22:59:60Z", "0000-01-01T00:00:00Z",
    "2026-00-10T00:00:00Z", "2026-13-10T00:00:00Z", "2026-01-00T00:00:00Z",
    "2026-01-32T00:00:00Z", "2026-04-31T00:00:00Z", "2026-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z", " 2026-11-23T18:40:00Z",
    "2026-11-23T18:40:00Z ", "2026-11-23T18:40:00Z\n", "2026-11-23T18:40:00ZZ",
    "2026-11-23T18:40:00Z+00:00", "+2026-11-23T18:40:00Z", "02026-11-23T18:40:00Z",
    "26-11-23T18:40:00Z", "2026/11/23T18:40:00Z", "2026-11-23T1:40:00Z", "2026-11-23T-1:40:00Z",
    "２026-11-23T18:40:00Z", "2026-11-23T18:40:00\u{2212}02:00", "2026-W48-1T18:40:00Z",
    "20261123T184000Z", "2026-11-23T18:40:00.1.2Z", "2026-11-23T18:40:00.1", "1795459200",
    "2026-11-23T18:40:00Z\u{0}",
  ]

  @Test("A text that is not a time is refused", arguments: refused)
  func refusesOtherTexts(text: String) {
    #expect(milliseconds(text) == nil)
  }

  @Test("Every day of the calendar follows the one before it by 86,400 seconds")
  func countsEveryDay() {
    var expected: Int64 = -62_135_596_800_000
    func padded(_ number: Int, _ width: Int) -> String {
      String(repeating: "0", count: width - String(number).count) + String(number)
    }
    for year in 1...9999 {
      let isLeap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0
      for (index, days) in [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .enumerated()
      {
        // The first and the last day, and the day after it, which must not exist.
        let prefix = padded(year, 4) + "-" + padded(index + 1, 2) + "-"
        guard milliseconds(prefix + "01T00:00:00Z") == expected else {
          Issue.record("\(prefix)01")
          return
        }
        expected += Int64(days) * 86_400_000
        guard milliseconds(prefix + padded(days, 2) + "T23:59:59.999Z") == expected - 1,
          milliseconds(prefix + padded(days + 1, 2) + "T00:00:00Z") == nil
        else {
          Issue.record("the end of \(prefix)")
          return
        }
      }
    }
    #expect(expected == 253_402_300_800_000)
  }

  @Test("Division rounds down on both sides of zero")
  func floorDivisionRoundsDown() {
    let cases: [(Int64, Int64)] = [
      (0, 0), (1, 0), (59, 0), (60, 1), (-1, -1), (-59, -1), (-60, -1), (-61, -2),
      (.max, Int64.max / 60), (.min, Int64.min / 60 - 1),
    ]
    for (dividend, quotient) in cases {
      #expect(floorDivide(dividend, by: 60) == quotient, "\(dividend)")
    }
  }
}
