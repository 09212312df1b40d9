import Billing
import Testing

@Suite struct TimeTextTests {
  @Test(arguments: [
    ("2026-11-01T00:00:00Z", 1_793_491_200_000), ("2026-11-01t01:00:00+01:00", 1_793_491_200_000),
    ("2026-10-31T20:30:00.000-03:30", 1_793_491_200_000),
    ("2026-11-01T00:00:00.1230z", 1_793_491_200_123), ("1970-01-01T00:00:00Z", 0),
  ]) func `An RFC 3339 time with any offset is read`(text: String, expected: Int64) {
    #expect(TimeText.read(text) == expected)
  }

  @Test(arguments: [
    "", "2026-11-01", "2026-11-01T00:00:00", "2026-02-30T00:00:00Z", "2026-11-01T24:00:00Z",
    "2026-11-01T23:59:60Z", "2026-11-01 00:00:00Z", "2026-11-01T00:00:00+0100",
    "2026-11-01T00:00:00.Z", "2026-11-01T00:00:00.1234Z", "2026-11-01T00:00:00+24:00",
    "0001-01-01T00:00:00+01:00", "2026-11-01T00:00:00Z\u{301}",
  ]) func `A text that is not such a time is refused`(text: String) {
    #expect(TimeText.read(text) == nil)
  }

  @Test func `A time is written with milliseconds only if it has some`() {
    #expect(TimeText.write(1_793_491_200_000) == "2026-11-01T00:00:00Z")
    #expect(TimeText.write(1_793_491_200_007) == "2026-11-01T00:00:00.007Z")
  }
}
