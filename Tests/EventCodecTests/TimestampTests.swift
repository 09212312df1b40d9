import EventCodec
import Metering
import MeteringTestKit
import Recount
import Testing

@Suite("Times in the format of RFC 3339")
struct TimestampTests {
  private func decoded(_ text: [UInt8]) -> Int64? {
    let copy = exactCopy(text)
    defer { copy.deallocate() }
    return Timestamp.milliseconds(UnsafeBufferPointer(copy.bindMemory(to: UInt8.self)))
  }

  private func agrees(_ text: [UInt8]) -> Bool { decoded(text) == millisecondsFromRFC3339(text) }

  private func padded(_ number: Int, _ digits: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  private func time(
    _ year: Int, _ month: Int, _ day: Int, _ clock: String = "T00:00:00Z"
  ) -> [UInt8] {
    bytes("\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))\(clock)")
  }

  @Test("Every day of the years 0001 to 9999 follows the day before by 86,400,000 ms")
  func everyDay() {
    var expected: Int64 = -62_135_596_800_000
    var year = 1
    var month = 1
    var day = 1
    while year <= 9_999 {
      let text = time(year, month, day)
      if let found = text.withUnsafeBufferPointer({ Timestamp.milliseconds($0) }) {
        if found != expected { Issue.record("\(year)-\(month)-\(day) is \(found)") }
        expected += 86_400_000
        day += 1
      } else {
        if day < 29 {
          Issue.record("\(year)-\(month)-\(day) is refused")
          return
        }
        day = 1
        month = month % 12 + 1
        if month == 1 { year += 1 }
      }
    }
    #expect(expected == 253_402_300_800_000)
  }

  @Test("Both readers know the same days, at and around every month's ends")
  func monthBounds() {
    for year in [
      0, 1, 4, 99, 100, 400, 1_582, 1_600, 1_700, 1_899, 1_900, 1_904, 1_969, 1_970, 1_999, 2_000,
      2_024, 2_026, 2_100, 9_996, 9_999,
    ] {
      for month in 0...13 {
        for day in [0, 1, 2, 27, 28, 29, 30, 31, 32] {
          for clock in [
            "T00:00:00Z", "T23:59:59.999Z", "T23:59:60Z", "T00:00:00+23:59", "T23:59:59-23:59",
          ] {
            let text = time(year, month, day, clock)
            #expect(agrees(text), "\(String(decoding: text, as: UTF8.self))")
          }
        }
      }
    }
  }

  @Test("Every hour, minute, second and offset at its bounds is read alike")
  func clockBounds() {
    for hour in [0, 1, 9, 12, 22, 23, 24, 60, 99] {
      for minute in [0, 1, 29, 30, 58, 59, 60, 99] {
        for second in [0, 58, 59, 60, 61, 99] {
          for zone in [
            "Z", "z", "+00:00", "-00:00", "+23:59", "-23:59", "+24:00", "+00:60", "-12:30",
            "+05:29",
          ] {
            let clock = "T\(padded(hour, 2)):\(padded(minute, 2)):\(padded(second, 2))\(zone)"
            let text = time(2_026, 6, 30, clock)
            #expect(agrees(text), "\(clock)")
          }
        }
      }
    }
  }

  @Test("Second 60 is accepted only at 23:59 UTC, and counts as 59")
  func leapSeconds() {
    let last = decoded(bytes("2026-06-30T23:59:59.250Z"))
    #expect(last != nil)
    for same in [
      "2026-06-30T23:59:60.250Z", "2026-07-01T05:29:60.25+05:30", "2026-06-30T15:59:60.2509-08:00",
    ] {
      #expect(decoded(bytes(same)) == last, "\(same)")
    }
    for wrong in ["2026-06-30T22:59:60Z", "2026-06-30T23:59:60+01:00", "2026-07-01T05:29:60Z"] {
      #expect(decoded(bytes(wrong)) == nil, "\(wrong)")
    }
    #expect(decoded(bytes("1969-12-31T23:59:60Z")) == -1_000)
    #expect(decoded(bytes("0001-01-01T23:58:60+23:59")) == -62_135_596_801_000)
    #expect(decoded(bytes("0001-01-01T23:58:60-00:01")) != nil)
  }

  @Test("Digits of a fraction after the third are dropped")
  func fractions() {
    let whole = decoded(bytes("2026-06-30T00:00:00Z")) ?? 0
    for (digits, milliseconds) in [
      ("0", 0), ("1", 100), ("12", 120), ("123", 123), ("1239", 123), ("0009", 0),
      ("999999999999999999999999", 999),
    ] {
      #expect(decoded(bytes("2026-06-30T00:00:00.\(digits)Z")) == whole + Int64(milliseconds))
    }
  }

  @Test("A time is read alike with any byte changed, inserted or removed")
  func mutations() {
    for text in ["2026-11-23T18:40:00.123Z", "2026-11-23t18:40:00-05:30", "2026-11-23T23:59:60.1z"]
    {
      let original = bytes(text)
      for position in original.indices {
        for byte in UInt8.min...UInt8.max {
          var changed = original
          changed[position] = byte
          #expect(agrees(changed))
          var longer = original
          longer.insert(byte, at: position)
          #expect(agrees(longer))
        }
        #expect(agrees(Array(original[..<position])))
        #expect(agrees(Array(original[position...])))
        var shorter = original
        shorter.remove(at: position)
        #expect(agrees(shorter))
      }
    }
  }

  @Test("Random times are read alike")
  func randomTimes() {
    var random = SeededRandom(of: "randomTimes")
    var valid = 0
    for _ in 0..<30_000 {
      let clock =
        random.pick(["T", "t"]) + padded(Int.random(in: 0...24, using: &random), 2) + ":"
        + padded(Int.random(in: 0...60, using: &random), 2) + ":"
        + padded(Int.random(in: 0...60, using: &random), 2)
        + random.pick(["", ".5", ".", ".0004", ".12345678901234567890"])
        + random.pick(["Z", "z", "+01:00", "-23:59", "", "+1:00", "Z "])
      let text = time(
        Int.random(in: 0...9_999, using: &random), Int.random(in: 1...12, using: &random),
        Int.random(in: 1...31, using: &random), clock)
      #expect(agrees(text), "\(String(decoding: text, as: UTF8.self))")
      if decoded(text) != nil { valid += 1 }
    }
    #expect(valid > 5_000)
  }
}
