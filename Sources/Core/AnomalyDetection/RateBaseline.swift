import RealModule

/// The usual calls per minute of one license: its level, its hours of the week, its minutes of the
/// hour, and its spread. They are learnt online in a fixed 200-odd bytes.
///
///     usual(t) = level × hour factor(hour of the week) × minute factor(minute of the hour)
///
/// Until an hour of the week was seen, the same hour of other days stands for it, and before that
/// the mean of the last hour. A new license is thus compared with what it has just done.
struct RateBaseline: BitwiseCopyable, Sendable {
  /// The expectation for one minute.
  struct Expectation: Equatable, Sendable {
    /// The mean calls per minute, from the past of this time.
    var usual: Float
    /// The same without what is known about minutes of the hour.
    var hourly: Float
    /// The calls per minute if the rate is what it was lately, adjusted by the rhythm between then
    /// and now.
    var lately: Float
    /// The calls per minute that still count as usual. This is the highest rate that the past of
    /// this time, the neighboring hours and minutes, known jobs and the recent rate explain.
    var upper: Float
    /// Variance = mean + dispersion × mean², for single minutes. It is never less than what slow
    /// wander adds to single minutes.
    var fastDispersion: Float
    /// The same, seen over a quarter of an hour. It is larger if neighboring minutes deviate alike.
    var slowDispersion: Float
    /// Whether a job is known to run in that minute or next to it.
    var isJob: Bool
    /// The past that the expectation comes from.
    var origin: Origin
  }

  /// The source of an hour's factor.
  enum Origin: UInt8 { case thisHourOfWeek, otherDays, lastHour }

  /// Hours of the week, from Thursday 00:00 UTC: 16 log2(factor) + 128, or 255 for an unseen hour.
  var hours = InlineArray<168, UInt8>(repeating: Self.unseen)
  /// Minutes of the hour, two in a byte: 3 log2(factor).
  var minutes = InlineArray<30, UInt8>(repeating: 0)
  /// The number of minutes learnt, up to 65,535. It stands here so that no byte is lost to
  /// alignment.
  var minutesSeen: UInt16 = 0
  var peaks = DailyPeaks()
  /// The calls per minute that hour factors are relative to; 0 until the first hour is over.
  var level: Float = 0
  /// The mean of about the last hour, in calls per minute.
  var recent: Float = 0
  /// The mean of (n − μ)² − μ. Divided by `squaredMean`, it is the dispersion of single minutes by
  /// the method of moments.
  var excessVariance: Float = 0
  /// The mean of (1 − ρ²) R² − μ, where R is `residual` and ρ is `residualDecay`: the same over a
  /// quarter of an hour.
  var slowExcessVariance: Float = 0
  /// The mean of μ².
  var squaredMean: Float = 0
  /// R ← ρR + n − μ: the calls above the expectation in about the last quarter of an hour.
  var residual: Float = 0
  /// What `excessVariance` must still learn from minutes that may be the beginning of a burst.
  var withheld: Float = 0
  /// The recent calls, and what was usual then.
  var laggedCalls = LaggedMean()
  var laggedUsual = LaggedMean()
  /// The calls of the current hour that are learnt, and the sum of its minutes' factors.
  var hourCalls: Float = 0
  var hourWeight: Float = 0

  static let unseen: UInt8 = 255
  /// Larger numbers of calls per minute are cut to this. Their squares stay far within a Float.
  static let mostCalls: Float = 1e13
  /// The lowest code of a minute factor that is used. Lower ones (up to 2.5) are more often noise
  /// than jobs.
  static let leastJobCode = 4
  static let residualDecay: Float = 1 - 1 / 16
  /// The dispersion that a new license is assumed to have, and how many of its own minutes outweigh
  /// that.
  static let priorDispersion: Float = 1
  static let priorMinutes: Float = 240
  /// Expectations are off by some part even if traffic is perfectly even.
  static let leastFastDispersion: Float = 0.05
  static let leastSlowDispersion: Float = 0.1
  /// The number of minutes after which the level and the spread have forgotten all but 1/e of the
  /// past.
  static let levelMinutes: Float = 1440
  /// A rhythm is never known better than this.
  static let margin: Float = 1.2
  /// The share that neighboring hours count for. The edge of a rhythm, and daylight saving, are no
  /// burst.
  static let neighborShare: Float = 0.9
  /// How far a rhythm is trusted to have changed the rate since lately.
  static let rhythm: ClosedRange<Float> = 0.7...1.5
  static let dispersionMinutes: Float = 7200

  init() {}
}

// MARK: Expecting

extension RateBaseline {
  /// The expectation for a minute, from what was learnt before it.
  func expectation(at minute: Int32) -> Expectation {
    let week = WeekClock.minuteOfWeek(minute)
    let hour = week / 60
    let here = code(ofHour: hour)
    var usual = here.code < 0 ? recent : level * Self.hourFactor(here.code)
    // Other days show the rhythm, and the last hour shows whether this day is like them.
    if here.origin == .otherDays { usual = min(max(usual, recent / 2), recent * 2) }
    let hourly = max(usual, 1e-3)
    let lately = lately(hourly, here.origin)
    let upper = max(explained(usual, hour, here.origin), lately)
    let own = minuteCode(week % 60)
    let around = max(own, minuteCode((week + 59) % 60), minuteCode((week + 1) % 60))
    let peak = peaks.factor(at: minute)
    let most = max(upper * Self.minuteFactor(around), peak > 1 ? usual * peak : 0)
    let isJob = around >= Self.leastJobCode || peak > 1
    let (fast, slow) = dispersions(here.origin, isJob)
    let factor = Self.minuteFactor(own)
    return Expectation(
      usual: min(hourly * factor, Self.mostCalls), hourly: min(hourly, Self.mostCalls),
      lately: min(lately * factor, Self.mostCalls),
      upper: min(max(most, 0.05), 10 * Self.mostCalls), fastDispersion: fast,
      slowDispersion: slow, isJob: isJob, origin: here.origin)
  }

  /// The highest rate that the past of this time and of the neighboring hours explains.
  private func explained(_ usual: Float, _ hour: Int, _ origin: Origin) -> Float {
    let neighbor = max(code(ofHour: (hour + 167) % 168).code, code(ofHour: (hour + 1) % 168).code)
    let around = neighbor < 0 ? 0 : Self.neighborShare * level * Self.hourFactor(neighbor)
    return max(usual, around) * (origin == .lastHour ? 1 : Self.margin)
  }

  private func lately(_ hourly: Float, _ origin: Origin) -> Float {
    guard origin != .lastHour else { return laggedCalls.value }
    let change = hourly / max(laggedUsual.value, 1e-3)
    return laggedCalls.value * min(max(change, Self.rhythm.lowerBound), Self.rhythm.upperBound)
  }

  /// Dispersions α = Σ((n − μ)² − μ) / Σμ² with the prior mixed in, and never less than is prudent
  /// for the origin of the expectation.
  func dispersions(_ origin: Origin, _ isJob: Bool) -> (fast: Float, slow: Float) {
    let prior = Self.priorMinutes / (Float(minutesSeen) + 1)
    let base = max(squaredMean, 1e-9)
    let known = 1 / (base * (1 + prior))
    let given = Self.priorDispersion * prior / (1 + prior)
    let single = max(excessVariance * known + given, 0)
    let quarter = max(slowExcessVariance * known + given, 0)
    // A quarter of an hour shows about half of what wander over longer times adds.
    var slow = max(quarter + 0.5 * max(quarter - single, 0), single, Self.leastSlowDispersion)
    var fast = max(single, Self.leastFastDispersion, slow / 10)
    if origin == .lastHour {
      slow = max(slow, 1)
      fast = max(fast, 0.5)
    }
    if isJob {
      slow = max(slow, 1)
      fast = max(fast, 0.25)
    }
    return (min(fast, 1e4), min(slow, 1e4))
  }

  /// An hour's factor: its own, otherwise the largest of the same hour on other days, otherwise −1.
  func code(ofHour hour: Int) -> (code: Int, origin: Origin) {
    let own = hours[hour]
    if own != Self.unseen { return (Int(own), .thisHourOfWeek) }
    var most = -1
    var other = hour % 24
    while other < 168 {
      let code = hours[other]
      if code != Self.unseen { most = max(most, Int(code)) }
      other += 24
    }
    return (most, most < 0 ? .lastHour : .otherDays)
  }

  @inline(__always)
  static func hourFactor(_ code: Int) -> Float { Float.exp2(Float(code - 128) / 16) }

  @inline(__always)
  func minuteCode(_ minute: Int) -> Int {
    Int(minutes[minute >> 1] >> UInt8((minute & 1) * 4)) & 15
  }

  @inline(__always)
  static func minuteFactor(_ code: Int) -> Float {
    code < leastJobCode ? 1 : Float.exp2(Float(code) / 3)
  }

}
