import AnomalyDetection
import MeteringTestKit
import Testing

/// Rows of any kind, as `meterctl backtest` gives them to the detector.
@Suite struct BurstDetectorTests {
  private static let start: Int64 = 29_000_000

  @Test("The score is always in [0, 1], and a value that is not finite changes nothing")
  func extremes() {
    var detector = BurstDetector()
    var random = SeededRandom(seed: 1)
    let odd: [Double] = [
      0, -0.0, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, .leastNonzeroMagnitude, 1e-300,
      -1, 1, .nan, .infinity, -.infinity, 0.37, 1e12, 99.5,
    ]
    let times: [Int64] = [0, 1, -1, .max, .min, 29_000_000, 28_999_999, 5, 1 << 31]
    var minute = Self.start
    for row in 0..<20_000 {
      minute += Int64(random.next() % 70)
      let at = row % 50 == 0 ? times[Int(random.next() % UInt64(times.count))] : minute
      let judged = detector.observe(odd[Int(random.next() % UInt64(odd.count))], at: at)
      #expect((0...1).contains(judged.score))
      #expect(judged.expected.isFinite && judged.spread.isFinite)
      #expect(judged.startsBurst == (judged.score >= BurstDetector.threshold))
    }
  }

  @Test("Rows of five minutes and of an hour are judged too", arguments: [5, 60])
  func longRows(minutes: Int64) {
    var detector = BurstDetector()
    var random = RandomCounts(seed: 9)
    var told: [Int] = []
    for row in 0..<3_000 {
      let mean = row >= 2_500 && row < 2_506 ? 1_000.0 : 100
      let value = Double(random.poisson(mean))
      if detector.observe(value, at: Self.start + Int64(row) * minutes).startsBurst {
        told.append(row)
      }
    }
    #expect(told == [2_500])
  }

  @Test("Nothing is reported in a license's first hour")
  func firstHour() {
    var detector = BurstDetector()
    for row in 0..<59 {
      let value = row % 20 == 19 ? 10_000.0 : 1
      #expect(!detector.observe(value, at: Self.start + Int64(row)).startsBurst)
    }
  }

  @Test("The state of a license is small")
  func size() {
    #expect(MemoryLayout<BurstDetector>.stride <= 330)
  }

  @Test("A row is judged only by those before it")
  func noLookAhead() {
    var random = RandomCounts(seed: 3)
    let values = (0..<3_000).map { _ in Double(random.negativeBinomial(40, dispersion: 0.3)) }
    func scores(_ count: Int) -> [Double] {
      var detector = BurstDetector()
      return (0..<count).map { detector.observe(values[$0], at: Self.start + Int64($0)).score }
    }
    let whole = scores(3_000)
    for end in [1, 61, 700, 2_999] { #expect(scores(end) == Array(whole[..<end])) }
  }
}
