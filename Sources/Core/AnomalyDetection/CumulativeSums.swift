/// Three cumulative sums (Page 1954) of log likelihood ratios, in nats, and the minutes since each
/// was 0.
///
/// - fast: tests for four times the rate, with the spread of single minutes, and forgets a fifth
///   per minute. It detects flash crowds and loops within a minute or two, and ignores slow wander.
/// - medium: tests for four times the rate, with the spread of a quarter of an hour. It adds up
///   evidence if there are too few calls for a minute to say much.
/// - slow: tests for twice the rate, with the same spread. It detects a slow climb.
struct CumulativeSums: BitwiseCopyable, Sendable {
  private(set) var fast: Float = 0
  private(set) var medium: Float = 0
  private(set) var slow: Float = 0
  private var fastAge: UInt8 = 0
  private var mediumAge: UInt8 = 0
  private var slowAge: UInt8 = 0

  private static let kept: Float = 0.8
  private static let fourTimes = Evidence.Hypothesis(factor: 4)
  private static let twice = Evidence.Hypothesis(factor: 2)

  /// The evidence of one minute's calls.
  struct Ratios {
    let fast: Evidence
    let medium: Evidence
    let slow: Evidence

    init(_ e: RateBaseline.Expectation) {
      fast = Evidence(mean: e.upper, dispersion: e.fastDispersion, CumulativeSums.fourTimes)
      medium = Evidence(mean: e.upper, dispersion: e.slowDispersion, CumulativeSums.fourTimes)
      slow = Evidence(mean: e.upper, dispersion: e.slowDispersion, CumulativeSums.twice)
    }
  }

  /// The largest sum, and how many minutes ago it began to grow.
  var largest: (evidence: Float, age: UInt8) {
    if medium > max(fast, slow) { return (medium, mediumAge) }
    return fast >= slow ? (fast, fastAge) : (slow, slowAge)
  }

  func after(_ calls: Float, _ ratios: Ratios, most: Float) -> CumulativeSums {
    var sums = self
    sums.fast = min(max(fast * Self.kept + ratios.fast.of(calls), 0), most)
    sums.medium = min(max(medium + ratios.medium.of(calls), 0), most)
    sums.slow = min(max(slow + ratios.slow.of(calls), 0), most)
    sums.fastAge = Self.age(fastAge, sums.fast)
    sums.mediumAge = Self.age(mediumAge, sums.medium)
    sums.slowAge = Self.age(slowAge, sums.slow)
    return sums
  }

  /// The number of calls at which a minute brings one of the sums to that much evidence.
  func calls(toReach evidence: Float, _ ratios: Ratios) -> Float {
    min(
      (evidence - fast * Self.kept + ratios.fast.fixed) / ratios.fast.perCall,
      (evidence - medium + ratios.medium.fixed) / ratios.medium.perCall,
      (evidence - slow + ratios.slow.fixed) / ratios.slow.perCall)
  }

  mutating func silent(minutes: Int32, _ ratios: Ratios) {
    let n = Float(minutes)
    fast = max(fast - ratios.fast.fixed * n, 0)
    medium = max(medium - ratios.medium.fixed * n, 0)
    slow = max(slow - ratios.slow.fixed * n, 0)
    if fast == 0 { fastAge = 0 }
    if medium == 0 { mediumAge = 0 }
    if slow == 0 { slowAge = 0 }
  }

  func isValid(most: Float) -> Bool {
    [fast, medium, slow].allSatisfy { $0 >= 0 && $0 <= most }
  }

  private static func age(_ age: UInt8, _ sum: Float) -> UInt8 {
    sum > 0 ? (age == 255 ? 255 : age + 1) : 0
  }
}
