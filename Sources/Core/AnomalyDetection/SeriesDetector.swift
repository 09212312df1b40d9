import RealModule

/// Judges a series of numbers row by row, without looking ahead, without settings for a series, and
/// in constant memory.
///
/// The expectation for a row is the exponential mean of recent rows, or the rhythm of the week on
/// top of it if that has explained the rows much better. A row is an anomaly if it is further off
/// than 4.8 times the spread and by two fifths of the expectation, and if chance does not explain
/// it. What it then teaches is bounded, so that one anomaly does not hide the next.
/// docs/decisions/0017-one-detector-for-series.md says how this was found and how far to trust it.
public struct SeriesDetector: Sendable {
  /// The score from which a row is a detection.
  public static let threshold = 0.5

  /// The judgement of one row.
  public struct Judgement: Equatable, Sendable {
    /// In [0, 1]: 1 − 2^(−|deviation| / 4.8). The first row of an anomaly reports it. The following
    /// rows stay below the threshold until two rows in succession have come back.
    public let score: Double
    /// The expectation from the rows before.
    public let expected: Double
    /// Rows that are further off than this are reported.
    public let spread: Double
    /// The number of spreads above the expectation. It is negative below it, and 0 if chance
    /// explains the row.
    public let deviation: Double
    /// Whether an anomaly is in progress after the row.
    public let isAnomaly: Bool

    /// Whether this row reports an anomaly.
    public var isDetection: Bool { score >= SeriesDetector.threshold }
  }

  /// The expectation for a row.
  struct Expectation: Equatable {
    var value: Double
    /// A standard deviation, or what takes its place.
    var spread: Double
  }

  static let deviations = 4.8
  /// A smaller share of the expectation than this is no anomaly, however steady the series was.
  private static let leastChange = 0.4
  /// A count is an anomaly only if the probability of chance is below e to the minus this.
  private static let countEvidence = 10.0
  /// The number of rows before anything is judged.
  static let warmUp = 50
  private static let rate = 0.005
  /// An outlier counts as this many standard deviations at most. For the rhythm it counts less.
  private static let most = 8.0
  private static let mostOfRhythm = 3.0
  /// The rhythm is used if its errors are this many times smaller (squared).
  private static let advantage = 4.0
  /// An anomaly is over when two rows are within this share of the threshold.
  private static let back = 0.7
  private static let backRows: UInt8 = 2
  /// Larger values are cut to this, because their squares must be finite.
  private static let largest = 1e30

  var rows = 0
  var last: Int64 = 0
  /// The minutes that a row stands for, 1 to 60.
  var step = 1.0
  /// Whether every value was a whole number of 0 or more.
  var areCounts = true
  var mean = 0.0
  var errors = ErrorSize()
  var rhythm = WeekRhythm()
  var rhythmLevel = 0.0
  var rhythmErrors = ErrorSize()
  /// The number of rows for which the rhythm had an expectation.
  var rhythmRows = 0
  /// The side of the current anomaly: 1 above the expectation, -1 below it; 0 if there is none.
  var side: Int8 = 0
  var quietRows: UInt8 = 0
  /// Whether the rhythm was the expectation when the anomaly began. During an anomaly, its own rows
  /// do not change what it is measured by.
  var usesRhythm = false

  /// A detector that has seen nothing. It judges no row before it has seen fifty.
  public init() {}

  var isOpen: Bool { side != 0 }

  /// Judges a row by the rows before it, then learns it. A value that is not finite is no anomaly
  /// and is not learnt.
  ///
  /// - Parameter minute: the start of the row, since 1970.
  public mutating func observe(_ value: Double, at minute: Int64) -> Judgement {
    guard value.isFinite else {
      let e = expectation(at: minute)
      return Judgement(
        score: 0, expected: e.value, spread: Self.deviations * e.spread, deviation: 0,
        isAnomaly: isOpen)
    }
    if rows > 0 { step = Double(min(max(minute.subtractingSaturated(last), 1), 60)) }
    last = minute
    let e = expectation(at: minute)
    let value = min(max(value, -Self.largest), Self.largest)
    if !isOpen { usesRhythm = prefersRhythm }
    areCounts = areCounts && value >= 0 && value == value.rounded()
    let deviation = deviation(of: value, from: e)
    learn(value, at: minute)
    let score = score(deviation)
    return Judgement(
      score: score, expected: e.value, spread: Self.deviations * e.spread, deviation: deviation,
      isAnomaly: isOpen)
  }

  /// Ends the current anomaly.
  mutating func close() {
    side = 0
    quietRows = 0
  }

  func expectation(at minute: Int64) -> Expectation {
    guard isOpen ? usesRhythm : prefersRhythm, let above = rhythm.value(at: minute, step: step)
    else { return Self.expectation(mean, errors) }
    return Self.expectation(rhythmLevel + above, rhythmErrors)
  }

  var prefersRhythm: Bool {
    rows > Self.warmUp && rhythmErrors.variance * Self.advantage < errors.variance
  }

  private static func expectation(_ value: Double, _ errors: ErrorSize) -> Expectation {
    let least = leastChange / deviations * value
    let spread = errors.spread
    return Expectation(value: value, spread: (spread * spread + least * least).squareRoot())
  }

  private func deviation(of value: Double, from e: Expectation) -> Double {
    guard rows > Self.warmUp else { return 0 }
    let deviation = (value - e.value) / (e.spread + 1e-9)
    guard areCounts, abs(deviation) >= Self.back * Self.deviations,
      evidence(value, against: e.value) < Self.countEvidence
    else { return deviation }
    return 0
  }

  /// Minus the logarithm of Chernoff's bound on the probability that a Poisson count with that mean
  /// is as far off as this one. The mean is never assumed to be less than one in all rows so far.
  private func evidence(_ count: Double, against mean: Double) -> Double {
    let mean = max(mean, 1 / Double(rows + 1))
    guard count > 0 else { return mean }
    return count * Double.log(count / mean) - (count - mean)
  }

  private mutating func learn(_ value: Double, at minute: Int64) {
    if rows == 0 {
      mean = value
      rhythmLevel = value
    }
    // The first rows have equal weights.
    let share = max(Self.rate, 1 / Double(rows + 1))
    let off = bounded(value - mean, Self.most, errors)
    mean += share * off
    errors.learn(off, share: share)
    if let above = rhythm.value(at: minute, step: step) {
      let error = value - rhythmLevel - above
      rhythmRows += 1
      rhythmLevel += Self.rate * bounded(error, Self.mostOfRhythm, rhythmErrors)
      rhythmErrors.learn(
        bounded(error, Self.most, rhythmErrors),
        share: max(Self.rate, 1 / Double(rhythmRows + 1)))
    } else {
      rhythmLevel += Self.rate * off
    }
    let most = Self.mostOfRhythm * rhythmErrors.variance.squareRoot()
    rhythm.learn(
      value - rhythmLevel, at: minute, step: step, most: most > 0 ? most : .infinity)
    rows += 1
  }

  /// At first nothing is known about what is far.
  private func bounded(_ off: Double, _ deviations: Double, _ errors: ErrorSize) -> Double {
    guard rows > Self.warmUp, errors.variance > 0 else { return off }
    let most = deviations * errors.variance.squareRoot()
    return min(max(off, -most), most)
  }

  private mutating func score(_ deviation: Double) -> Double {
    let size = abs(deviation)
    let score = 1 - Double.exp2(-size / Self.deviations)
    if isOpen {
      // A row far off on the other side has come back too.
      let isBack = Double(side) * deviation < Self.back * Self.deviations
      quietRows = isBack ? quietRows + 1 : 0
      if quietRows >= Self.backRows { side = 0 }
      return min(score, 0.499)
    }
    guard size >= Self.deviations else { return min(score, 0.499) }
    side = deviation > 0 ? 1 : -1
    quietRows = 0
    return max(score, Self.threshold)
  }
}

extension Int64 {
  fileprivate func subtractingSaturated(_ other: Int64) -> Int64 {
    let (difference, overflows) = subtractingReportingOverflow(other)
    return overflows ? (self < other ? .min : .max) : difference
  }
}
