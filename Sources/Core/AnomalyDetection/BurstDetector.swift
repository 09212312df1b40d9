import Metering
import RealModule

/// Judges one license's calls, minute by minute, by its own past: is this far more than expected?
///
/// The expectation for a minute is the higher of two explanations (`RateBaseline`): what is usual
/// at this time, and what the rate was about an hour and a half ago. Three cumulative sums of
/// evidence (`CumulativeSums`) test for four times that rate, and for twice. A burst is reported
/// when the largest sum reaches h = 14 nats. The effect of traffic that the model does not describe
/// was measured: docs/decisions/0008-bursts.md.
///
/// A detector takes about 300 bytes without padding, and is copied unchanged into checkpoints.
package struct BurstDetector: BitwiseCopyable, Sendable {
  /// The score from which on traffic is a burst.
  package static let threshold = 0.5
  /// Part of every alert. It is raised whenever other bursts would be found.
  package static let version = 2

  /// The judgement of one row.
  package struct Judgement: Equatable, Sendable {
    /// In [0, 1]: 1 − 2^(−S / h), where S is the largest sum. A row with 0.5 or more begins a
    /// burst. Other rows stay below, even if they belong to a burst that was reported, to its
    /// cool-down, or to a license's first hour.
    package var score: Double
    /// Rows up to this are usual.
    package var expected: Double
    /// Two standard deviations: 19 of 20 usual rows are below `expected` + `spread`.
    package var spread: Double
    /// Whether a burst is in progress after the row.
    package var isBurst: Bool
    /// Whether this row reports the burst.
    package var startsBurst: Bool
  }

  var baseline = RateBaseline()
  private(set) var sums = CumulativeSums()
  /// How long, and how clearly, the rate has been low in the current burst: sixteenths of the usual
  /// rate times minutes.
  private var quiet: UInt8 = 0
  private var burstFlag: UInt8 = 0
  /// The minute up to which everything is learnt.
  var closed: Int32 = -WeekClock.farthest - 3
  /// The first minute of the current burst, or the first minute after the cool-down of the last
  /// one.
  private var mark: Int32 = -WeekClock.farthest - 3

  var isBurst: Bool { burstFlag != 0 }

  /// h, in nats.
  static let thresholdEvidence: Float = 14
  private static let mostEvidence: Float = 32
  /// The minutes at the beginning of a license's life in which nothing is reported, until each
  /// minute of an hour, with its job, was seen once.
  private static let leastHistory: UInt16 = 60
  /// Calls above the usual, in about a quarter of an hour, without which nothing is reported.
  private static let leastExcess: Float = 16
  /// A burst is over when the rate was below this multiple of the usual for about 13 minutes on
  /// average: Σ(quietRatio − n/μ), with each minute between −1 and 3/8, has reached 4.
  private static let quietRatio: Float = 1.3
  private static let quietEnough: UInt8 = 64
  /// The evidence, in nats, from which a single minute is remembered as the possible minute of a
  /// job.
  private static let peakEvidence: Float = 5
  private static let job = Evidence.Hypothesis(factor: 4)
  private static let coolDownMinutes = SchemaContract.coolDownMinutes
  /// Longer silences are treated as this long.
  static let longestGap: Int32 = 14 * 1440

  package init() {}
}

extension BurstDetector {
  /// Judges a row by the rows before it, then learns it. A row holds the calls of a minute or of a
  /// longer time. Nothing is assumed about the time between rows. Negative values count as 0, and
  /// values that are not finite are not learnt.
  package mutating func observe(_ value: Double, at minute: Int64) -> Judgement {
    let at = WeekClock.bounded(Int32(clamping: minute))
    let e = baseline.expectation(at: at)
    let mean = Double(e.upper)
    var judgement = Judgement(
      score: 0, expected: mean,
      spread: 2 * (mean + Double(e.fastDispersion) * mean * mean).squareRoot(), isBurst: isBurst,
      startsBurst: false)
    guard value.isFinite else { return judgement }
    let calls = Float(min(max(value, 0), Double(RateBaseline.mostCalls)))
    let (evidence, age) = evidence(at: at, calls: calls, previous: nil)
    judgement.startsBurst = calls >= alarm(at: at, previous: nil)
    if judgement.startsBurst { start(at: at - Int32(age)) }
    let step = closed < -WeekClock.farthest - 2 ? 1 : min(max(Float(at) - Float(closed), 1), 60)
    close(calls, at: at, step: step)
    judgement.isBurst = isBurst
    let score = Self.score(evidence)
    judgement.score = judgement.startsBurst ? max(score, Self.threshold) : min(score, 0.499)
    return judgement
  }

  static func score(_ evidence: Float) -> Double {
    1 - Double.exp2(-Double(evidence / thresholdEvidence))
  }

  /// The sums after a minute.
  private func after(
    _ calls: Float, _ e: RateBaseline.Expectation, most: Float
  ) -> CumulativeSums {
    sums.after(calls, CumulativeSums.Ratios(e), most: most)
  }

  /// The largest sum after a minute with these calls, and how many minutes before it that sum began
  /// to grow.
  func evidence(at minute: Int32, calls: Float, previous: Float?) -> (Float, age: UInt8) {
    var before = self
    if let previous {
      before.sums = after(previous, baseline.expectation(at: minute - 1), most: Self.mostEvidence)
    }
    let now = before.after(calls, baseline.expectation(at: minute), most: .infinity).largest
    return (now.evidence, now.age == 255 ? 255 : max(now.age, 1) - 1)
  }

  /// The number of calls at which the minute is reported as a burst, if the minute before it had
  /// `previous` calls.
  func alarm(at minute: Int32, previous: Float?) -> Float {
    guard !isBurst, minute >= mark, baseline.minutesSeen >= Self.leastHistory else {
      return .infinity
    }
    var sums = sums
    var excess = baseline.residual
    if let previous {
      let e = baseline.expectation(at: minute - 1)
      sums = after(previous, e, most: Self.mostEvidence)
      excess += previous - e.usual
    }
    let e = baseline.expectation(at: minute)
    let byEvidence = sums.calls(
      toReach: Self.thresholdEvidence, CumulativeSums.Ratios(e))
    return max(byEvidence, e.usual + Self.leastExcess - max(excess, 0))
  }

  mutating func start(at minute: Int32) {
    mark = minute
    burstFlag = 1
    quiet = 0
  }

  /// Learns a minute, or a row that stands for `step` minutes.
  mutating func close(_ calls: Float, at minute: Int32, step: Float = 1) {
    let e = baseline.expectation(at: minute)
    if isBurst {
      let calm = min(max(16 * (Self.quietRatio - calls / max(e.upper / 1.2, 0.05)), -16), 6)
      quiet = UInt8(min(max(Float(quiet) + calm, 0), 255))
      if quiet >= Self.quietEnough { end(at: minute) }
    } else if baseline.minutesSeen >= Self.leastHistory {
      sums = after(calls, e, most: mostEvidence(at: minute))
    }
    let burstMinutes = isBurst ? minute - mark : -1
    baseline.learn(
      calls, at: minute, after: closed, step: step, e, burstMinutes: burstMinutes,
      isPeak: isPeak(calls, e, burstMinutes), isDoubtful: sums.fast > 0)
    closed = minute
  }

  /// Whether a minute may belong to a job: it alone is far above the usual (apart from known jobs),
  /// or it is high and a burst has just begun.
  private func isPeak(_ calls: Float, _ e: RateBaseline.Expectation, _ burstMinutes: Int32) -> Bool
  {
    if burstMinutes >= 0, burstMinutes < 8, calls > 2 * e.usual { return true }
    guard calls > 3 * e.usual else { return false }
    let mean = max(e.usual, 0.05)
    return Evidence(mean: mean, dispersion: e.fastDispersion, Self.job).of(calls)
      > Self.peakEvidence
  }

  /// Learns minutes without calls, all in one hour, outside a burst.
  mutating func close(silentMinutes count: Int32, from first: Int32) {
    let e = baseline.expectation(at: first)
    sums.silent(minutes: count, CumulativeSums.Ratios(e))
    baseline.learnSilence(count, from: first, after: closed, e)
    closed = first + count - 1
  }

  /// During the cool-down evidence counts half. Otherwise the end of the last burst could start a
  /// new one.
  private func mostEvidence(at minute: Int32) -> Float {
    minute < mark ? Self.thresholdEvidence / 2 : Self.mostEvidence
  }

  /// Whether every number is one that observing can produce.
  var isValid: Bool {
    let times = -WeekClock.farthest - 1_000...WeekClock.farthest + 1_000
    return baseline.isValid && burstFlag <= 1 && times.contains(closed) && times.contains(mark)
      && sums.isValid(most: Self.mostEvidence)
  }

  private mutating func end(at minute: Int32) {
    burstFlag = 0
    mark = minute + Self.coolDownMinutes
    sums = CumulativeSums()
  }
}
