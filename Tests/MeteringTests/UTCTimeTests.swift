import Metering
import Testing

@Suite struct UTCTimeTests {
  @Test func `Times are written and read back, with leap days`() {
    #expect(UTCTime.text(0) == "1970-01-01T00:00:00.000Z")
    #expect(UTCTime.text(1_764_009_600_123) == "2025-11-24T18:40:00.123Z")
    #expect(UTCTime.text(-1) == "1969-12-31T23:59:59.999Z")
    #expect(UTCTime.text(951_782_400_000) == "2000-02-29T00:00:00.000Z")
    #expect(UTCTime.milliseconds("2100-02-29T00:00:00.000Z") == nil)
    #expect(UTCTime.milliseconds("2025-11-24T18:40:60.000Z") == nil)
    #expect(UTCTime.milliseconds("2025-11-24T18:40:00Z") == nil)
    for milliseconds in stride(
      from: Int64(-70_000_000_000_000), to: 250_000_000_000_000, by: 86_399_123_457)
    {
      let text = UTCTime.text(milliseconds)
      if milliseconds >= -62_167_219_200_000 {
        #expect(UTCTime.milliseconds(text) == milliseconds)
      }
    }
  }

  @Test func `The brief spelling has a fraction only where there is one`() {
    #expect(UTCTime.brief(1_793_491_200_000) == "2026-11-01T00:00:00Z")
    #expect(UTCTime.brief(1_793_491_200_007) == "2026-11-01T00:00:00.007Z")
    #expect(UTCTime.brief(-1_000) == "1969-12-31T23:59:59Z")
    #expect(UTCTime.day(1_793_491_200_007) == "2026-11-01")
    #expect(UTCTime.day(-1) == "1969-12-31")
  }

  @Test func `A day is a date of the years that PostgreSQL has`() {
    #expect(UTCTime.isDay("0001-01-01") && UTCTime.isDay("9999-12-31"))
    #expect(!UTCTime.isDay("0000-01-01") && !UTCTime.isDay("0000-12-31"))
    #expect(!UTCTime.isDay("2026-02-29") && !UTCTime.isDay("2026-2-01"))
  }
}
