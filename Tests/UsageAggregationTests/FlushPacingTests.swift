import Testing
import UsageAggregation

@Suite struct FlushPacingTests {
  private func pacing() -> FlushPacing {
    FlushPacing(interval: 250, catchUpInterval: 5_000, maximumEntries: 1_000)
  }

  @Test func `an empty batch is never due`() {
    #expect(!pacing().isDue(at: 1_000_000, entries: 0))
  }

  @Test func `a batch is due when it is as old as the interval`() {
    var pacing = pacing()
    pacing.tookRecord(at: 1_000)
    pacing.tookRecord(at: 1_200)
    #expect(!pacing.isDue(at: 1_249, entries: 1))
    #expect(pacing.isDue(at: 1_250, entries: 1))
  }

  @Test func `a batch is due when it holds as many entries as are allowed`() {
    var pacing = pacing()
    pacing.tookRecord(at: 1_000)
    #expect(!pacing.isDue(at: 1_000, entries: 999))
    #expect(pacing.isDue(at: 1_000, entries: 1_000))
  }

  @Test func `a position that moved without a record is stored within half a second`() {
    var pacing = pacing()
    pacing.endMoved(at: 1_000)
    #expect(!pacing.isDue(at: 1_499, entries: 0))
    #expect(pacing.isDue(at: 1_500, entries: 0))
    pacing.sealed()
    #expect(!pacing.isDue(at: 9_000, entries: 0))
  }

  @Test func `a batch that is kept open waits for another interval`() {
    var pacing = pacing()
    pacing.tookRecord(at: 1_000)
    pacing.endMoved(at: 1_000)
    pacing.keptOpen(at: 1_400)
    #expect(!pacing.isDue(at: 1_649, entries: 1))
    #expect(pacing.isDue(at: 1_650, entries: 1))
  }

  @Test func `a consumer that is behind flushes as late as catching up may take`() {
    var pacing = pacing()
    pacing.tookRecord(at: 0)
    pacing.lag = FlushPacing.behindRecords
    #expect(!pacing.isBehind)
    #expect(pacing.isDue(at: 250, entries: 1))
    pacing.lag = 200_000
    #expect(pacing.isBehind)
    #expect(!pacing.isDue(at: 1_999, entries: 1))
    #expect(pacing.isDue(at: 2_000, entries: 1))
    pacing.lag = 100_000_000
    #expect(!pacing.isDue(at: 4_999, entries: 1))
    #expect(pacing.isDue(at: 5_000, entries: 1))
  }
}
