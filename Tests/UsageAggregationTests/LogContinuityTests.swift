import Testing
import UsageAggregation

@Suite struct LogContinuityTests {
  private func judge(
    next: Int64, remembered: (Int64, Int64)?, log: ClosedRange<Int64>,
    _ found: LogContinuity.Found = .unknown
  ) -> LogContinuity {
    LogContinuity.judge(
      nextOffset: next, remembered: remembered.map { (offset: $0.0, hash: $0.1) },
      low: log.lowerBound, high: log.upperBound, found: found)
  }

  @Test func `A log that still has the last counted record is the same, and needs no command`() {
    let same = judge(next: 10, remembered: (9, 77), log: 0...20, .record(hash: 77))
    #expect(same == .same && same.remedy == nil)
    #expect(judge(next: 10, remembered: (9, 77), log: 0...20) == .unproven)
    #expect(judge(next: 10, remembered: nil, log: 0...20) == .unproven)
    #expect(judge(next: 3, remembered: nil, log: 3...20) == .untouched)
    // Retention may have removed what was counted.
    #expect(judge(next: 10, remembered: (9, 77), log: 10...20) == .unproven)
  }

  @Test func `Another record, or none, where the last counted one stood asks for a new epoch`() {
    for found in [LogContinuity.Found.record(hash: 78), .nothing] {
      let other = judge(next: 10, remembered: (9, 77), log: 0...20, found)
      #expect(other == .another(offset: 9))
      #expect(other.remedy == "meterctl topics new-epoch")
    }
    let shorter = judge(next: 10, remembered: (9, 77), log: 0...5)
    #expect(shorter == .shorter(high: 5) && shorter.remedy == "meterctl topics new-epoch")
  }

  @Test func `A log that lost its beginning or its end, and is the same, asks for accept-gap`() {
    let trimmed = judge(next: 10, remembered: (9, 77), log: 12...20)
    #expect(trimmed == .trimmed(low: 12) && trimmed.remedy == "meterctl topics accept-gap")
    let cut = judge(next: 10, remembered: (4, 77), log: 0...8, .record(hash: 77))
    #expect(cut == .cut(high: 8) && cut.remedy == "meterctl topics accept-gap")
    #expect(cut.problem(nextOffset: 10)?.contains("new-epoch") == false)
  }
}
