import Testing
import UsageAggregation

/// One table of cases for the engine and for `meterctl`, because both ask `LogContinuity`.
@Suite struct LogContinuityTests {
  struct Case: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var next: Int64 = 10
    var remembered: Int64? = 9
    var log: ClosedRange<Int64>
    var identity: LogLook.Identity = .unknown
    var expected: LogContinuity
    var cause: Standstill.Cause?
    var remedy: String?
  }

  static let newEpoch = "meterctl topics new-epoch"
  static let acceptGap = "meterctl topics accept-gap"

  static let cases = [
    Case(testDescription: "the record is there", log: 0...20, identity: .same, expected: .same),
    Case(
      testDescription: "the position is the log's end", log: 0...10, identity: .same,
      expected: .same),
    Case(testDescription: "nobody looked", log: 0...20, expected: .unproven),
    Case(
      testDescription: "no record is remembered", remembered: nil, log: 0...20,
      expected: .unproven),
    Case(
      testDescription: "nothing was counted", next: 3, remembered: nil, log: 3...20,
      expected: .untouched),
    Case(
      testDescription: "the beginning is not known yet", next: -1, remembered: nil, log: 3...20,
      expected: .untouched),
    Case(
      testDescription: "retention removed what was counted", log: 10...20, expected: .unproven),
    Case(
      testDescription: "another record stands there", log: 0...20, identity: .differs,
      expected: .another(offset: 9), cause: .logDiffers, remedy: newEpoch),
    Case(
      testDescription: "another record stands there, and the log is shorter", next: 30,
      log: 0...20, identity: .differs, expected: .another(offset: 9), cause: .logDiffers,
      remedy: newEpoch),
    Case(
      testDescription: "the log ends before the record", log: 0...5, expected: .shorter(high: 5),
      cause: .logEndsEarly, remedy: newEpoch),
    Case(
      testDescription: "the engine says differs for a record behind the end", log: 0...5,
      identity: .differs, expected: .shorter(high: 5), cause: .logEndsEarly, remedy: newEpoch),
    Case(
      testDescription: "the log lost its end and has the record", remembered: 4, log: 0...8,
      identity: .same, expected: .cut(high: 8), cause: .endLost, remedy: acceptGap),
    Case(
      testDescription: "retention removed what was not counted", log: 12...20,
      expected: .trimmed(low: 12), cause: .recordsGone, remedy: acceptGap),
    Case(
      testDescription: "nothing was counted, and the log begins later", next: 3, remembered: nil,
      log: 5...20, expected: .trimmed(low: 5), cause: .recordsGone, remedy: acceptGap),
  ]

  @Test(arguments: cases)
  func `Each state of a log has its cause and its remedy`(_ c: Case) {
    let look = LogLook(low: c.log.lowerBound, high: c.log.upperBound, identity: c.identity)
    let continuity = LogContinuity(next: c.next, remembered: c.remembered, look)
    #expect(continuity == c.expected)
    let standstill = continuity.standstill(next: c.next)
    #expect(standstill?.cause == c.cause)
    #expect(standstill?.remedy == c.remedy)
    if let remedy = c.remedy { #expect(standstill?.detail.contains("run: \(remedy)") == true) }
    #expect(standstill?.isHalt ?? true)
  }

  @Test func `The command that a halt advises is one that new-epoch does not refuse`() {
    for c in Self.cases {
      let look = LogLook(low: c.log.lowerBound, high: c.log.upperBound, identity: c.identity)
      let log = CountedPartitionLog(
        group: "g", partition: 0, next: c.next, remembered: c.remembered, look)
      let isRefused = EpochRefusal([log]) != nil
      switch c.remedy {
      case Self.newEpoch: #expect(!isRefused, "\(c.testDescription)")
      case Self.acceptGap: #expect(isRefused, "\(c.testDescription)")
      default: #expect(isRefused == (c.expected != .untouched), "\(c.testDescription)")
      }
    }
  }
}

@Suite struct EpochRefusalTests {
  private func log(
    _ partition: Int32, next: Int64 = 10, remembered: Int64? = 9, _ low: Int64, _ high: Int64,
    _ identity: LogLook.Identity
  ) -> CountedPartitionLog {
    CountedPartitionLog(
      group: "usage-aggregator", partition: partition, next: next, remembered: remembered,
      LogLook(low: low, high: high, identity: identity))
  }

  @Test func `If one partition is still the one that was counted, only the others are named`() {
    let refusal = EpochRefusal([
      log(2, 0, 20, .differs), log(1, 0, 20, .same), log(0, 0, 5, .unknown),
    ])
    #expect(refusal == .nameTheOthers([0, 2], same: log(1, 0, 20, .same)))
    #expect(refusal?.sentence.contains("--partition 0 2") == true)
    #expect(refusal?.sentence.contains("(offset 9)") == true)
  }

  @Test func `A log that is another one everywhere, or was never counted, is not refused`() {
    #expect(EpochRefusal([log(0, 0, 20, .differs), log(1, 0, 5, .unknown)]) == nil)
    #expect(EpochRefusal([log(0, 0, 20, .differs), log(1, 0, 20, .unknown)]) == nil)
    #expect(EpochRefusal([log(0, next: 0, remembered: nil, 0, 20, .unknown)]) == nil)
    #expect(EpochRefusal([]) == nil)
  }

  @Test func `A log that lost its beginning or end is sent to accept-gap`() {
    let cut = EpochRefusal([
      log(0, 0, 20, .same), log(1, remembered: 4, 0, 8, .same),
    ])
    #expect(cut?.sentence.contains("lost its end at 8; run: meterctl topics accept-gap") == true)
    let trimmed = EpochRefusal([log(3, 12, 20, .unknown)])
    #expect(trimmed?.sentence.contains("partition 3 lost its beginning, up to 12") == true)
  }

  @Test func `If nothing shows another log, a new epoch is refused`() {
    let refusal = EpochRefusal([log(7, 0, 20, .unknown)])
    #expect(refusal == .unproven(log(7, 0, 20, .unknown)))
    #expect(refusal?.sentence.contains("counted up to 10") == true)
  }
}
