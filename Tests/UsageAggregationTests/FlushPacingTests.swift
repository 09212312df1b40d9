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

  @Test func `a consumer that is behind flushes once, at the end of the log`() {
    var pacing = pacing()
    pacing.tookRecord(at: 0)
    pacing.found(lag: FlushPacing.behindRecords, at: 0)
    #expect(!pacing.isBehind)
    #expect(pacing.isDue(at: 250, entries: 1))
    pacing.found(lag: 200_000, at: 1)
    #expect(pacing.isBehind)
    #expect(!pacing.isDue(at: 2_000, entries: 1))
    pacing.found(lag: 50_000, at: 2_000)
    #expect(!pacing.isBehind)
    #expect(!pacing.isDue(at: 2_000, entries: 1))
    pacing.found(lag: 1_001, at: 2_050)
    #expect(!pacing.isDue(at: 2_050, entries: 1))
    pacing.found(lag: 1_000, at: 2_051)
    #expect(pacing.isDue(at: 2_051, entries: 1))
    pacing.found(lag: 50_000, at: 2_052)
    #expect(!pacing.isCatchingUp)
  }

  @Test func `a consumer that is far behind flushes at the catch-up interval`() {
    var pacing = pacing()
    pacing.found(lag: 100_000_000, at: 0)
    pacing.tookRecord(at: 0)
    #expect(!pacing.isDue(at: 4_999, entries: 1))
    #expect(pacing.isDue(at: 5_000, entries: 1))
    #expect(pacing.isDue(at: 0, entries: 1_000))
  }

  @Test func `a batch waits for an end that does not come nearer only for a moment`() {
    var pacing = pacing()
    pacing.found(lag: 200_000, at: 0)
    pacing.tookRecord(at: 0)
    pacing.found(lag: 90_000, at: 1_000)
    pacing.found(lag: 90_000, at: 1_249)
    #expect(!pacing.isDue(at: 1_249, entries: 1))
    pacing.found(lag: 90_000, at: 1_250)
    #expect(pacing.isDue(at: 1_250, entries: 1))
    // If the consumer falls behind in between, the wait begins again.
    pacing.found(lag: 200_000, at: 1_300)
    pacing.found(lag: 90_000, at: 1_400)
    pacing.found(lag: 200_000, at: 1_500)
    pacing.found(lag: 90_000, at: 1_600)
    #expect(pacing.isCatchingUp)
  }
}
