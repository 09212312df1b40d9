import RealModule

/// Judges a series of numbers row by row: no look ahead, no settings of a series, constant memory.
///
/// What is expected of a row is the exponential mean of late, or the rhythm of the week above it,
/// where that has explained the rows much better. A row is an anomaly where it lies further off than
/// 4.8 times the spread, by two fifths of what is expected, and where chance does not explain it.
/// What it then teaches is bounded, so that one anomaly does not hide the next.
/// docs/decisions/0017-one-detector-for-series.md says how this was found and how far to trust it.
public struct SeriesDetector: Sendable {
  /// The score from which a row is a detection.
  public static let threshold = 0.5

  /// What was made of one row.
  public struct Judgement: Equatable, Sendable {
    /// In [0, 1]: 1 − 2^(−|deviation| / 4.8). An anomaly is told by its first row; the others stay
    /// below the threshold until two rows in a row have come back.
    public let score: Double
    /// What the rows before led one to expect.
    public let expected: Double
    /// Rows further off than this are told.
    public let spread: Double
    /// Spreads above what was expected; negative below it, and 0 where chance explains the row.
    public let deviation: Double
    /// Whether an anomaly is going on after the row.
    public let isAnomaly: Bool

    /// Whether this row tells an anomaly.
    public var isDetection: Bool { score >= SeriesDetector.threshold }
  }

  /// What is expected of a row.
  struct Expectation: Equatable {
    var value: Double
    /// A standard deviation, or what takes its place.
    var spread: Double
  }

  static let deviations = 4.8
  /// Less than this share of what is expected is no anomaly, however steady the series was.
  private static let leastChange = 0.4
  /// A count is an anomaly only where chance alone makes it less likely than e to the minus this.
  private static let countEvidence = 10.0
  /// Rows before nothing is judged.
  static let warmUp = 50
  private static let rate = 0.005
  /// An outlier counts as so many standard deviations; to the rhythm, as fewer.
  private static let most = 8.0
  private static let mostOfRhythm = 3.0
  /// The rhythm is used where its errors are this many times smaller, squared.
  private static let advantage = 4.0
  /// An anomaly is over when two rows lie within this share of the threshold.
  private static let back = 0.7
  private static let backRows: UInt8 = 2
  /// Values beyond this are taken for it: their squares must be finite.
  private static let largest = 1e30

  var rows = 0
  var last: Int64 = 0
  /// Minutes that a row stands for, 1 to 60.
  var step = 1.0
  /// Whether every value was a whole number that is not negative.
  var areCounts = true
  var mean = 0.0
  var errors = ErrorSize()
  var rhythm = WeekRhythm()
  var rhythmLevel = 0.0
  var rhythmErrors = ErrorSize()
  /// Rows that the rhythm had an expectation of.
  var rhythmRows = 0
  /// The side on which an anomaly is going on: 1 above what is expected, -1 below; 0 for none.
  var side: Int8 = 0
  var quietRows: UInt8 = 0
  /// Whether the rhythm was expected when the anomaly began: while one goes on, its own rows do not
  /// change what it is measured by.
  var usesRhythm = false

  /// A detector that has seen nothing: it judges no row before it has seen fifty.
  public init() {}

  var isOpen: Bool { side != 0 }

  /// Judges a row by those before it, then learns it. A value that is not finite is judged as no
  /// anomaly and not learnt.
  ///
  /// - Parameter minute: since 1970, of the row's start.
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

  /// Takes what is going on for over.
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

  /// Minus the logarithm of the bound of Chernoff on the chance that a Poisson count with that mean
  /// lies as far off as this one. No mean is known to be less than one in all rows so far.
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
    // The first rows weigh alike.
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

  /// Early on nothing is known of what is far.
  private func bounded(_ off: Double, _ deviations: Double, _ errors: ErrorSize) -> Double {
    guard rows > Self.warmUp, errors.variance > 0 else { return off }
    let most = deviations * errors.variance.squareRoot()
    return min(max(off, -most), most)
  }

  private mutating func score(_ deviation: Double) -> Double {
    let size = abs(deviation)
    let score = 1 - Double.exp2(-size / Self.deviations)
    if isOpen {
      // What lies far off on the other side has come back too.
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
