import RealModule

/// Judges a series of numbers row by row: no look ahead, no settings of a series, constant memory.
///
/// What is expected of a row is the exponential mean of late, or the rhythm of the week above it,
/// where that has explained the rows much better. A row is an anomaly where it lies further off than
/// 5.1 standard deviations; what it then teaches is bounded, so that one anomaly does not hide the
/// next. docs/decisions/0017-one-detector-for-series.md says how this was found and how far to trust
/// it.
public struct SeriesDetector: Sendable {
  /// The score from which a row is a detection.
  public static let threshold = 0.5

  /// What was made of one row.
  public struct Judgement: Equatable, Sendable {
    /// In [0, 1]: 1 − 2^(−|deviation| / 5.1). An anomaly is told by its first row; the others stay
    /// below the threshold until two rows in a row have come back.
    public let score: Double
    /// What the rows before led one to expect.
    public let expected: Double
    /// Rows further off than this are told.
    public let spread: Double
    /// Standard deviations above what was expected; negative below it.
    public let deviation: Double
    /// Whether an anomaly is going on after the row.
    public let isAnomaly: Bool

    /// Whether this row tells an anomaly.
    public var isDetection: Bool { score >= SeriesDetector.threshold }
  }

  /// What is expected of a row.
  struct Expectation: Equatable {
    var value: Double
    /// Standard deviation.
    var spread: Double
  }

  static let deviations = 5.1
  /// Rows before nothing is judged.
  static let warmUp = 50
  private static let rate = 0.005
  /// An outlier counts as so many standard deviations; to the rhythm, as fewer.
  private static let most = 8.0
  private static let mostOfRhythm = 3.0
  /// The rhythm is used where its errors are this many times smaller, squared.
  private static let advantage = 12.0
  /// An anomaly is over when two rows lie within this share of the threshold.
  private static let back = 0.7
  private static let backRows: UInt8 = 2
  /// Values beyond this are taken for it: their squares must be finite.
  private static let largest = 1e30

  var rows = 0
  var last: Int64 = 0
  /// Minutes that a row stands for, 1 to 60.
  var step = 1.0
  var mean = 0.0
  var variance = 0.0
  var rhythm = WeekRhythm()
  var rhythmLevel = 0.0
  var rhythmVariance = 0.0
  var isOpen = false
  var quietRows: UInt8 = 0

  /// A detector that has seen nothing: it judges no row before it has seen fifty.
  public init() {}

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
    let deviation = rows > Self.warmUp ? (value - e.value) / (e.spread + 1e-9) : 0
    learn(value, at: minute)
    let score = score(deviation)
    return Judgement(
      score: score, expected: e.value, spread: Self.deviations * e.spread, deviation: deviation,
      isAnomaly: isOpen)
  }

  /// Takes what is going on for over.
  mutating func close() {
    isOpen = false
    quietRows = 0
  }

  func expectation(at minute: Int64) -> Expectation {
    guard rows > Self.warmUp, let above = rhythm.value(at: minute, step: step),
      rhythmVariance * Self.advantage < variance
    else { return Expectation(value: mean, spread: variance.squareRoot()) }
    return Expectation(value: rhythmLevel + above, spread: rhythmVariance.squareRoot())
  }

  private mutating func learn(_ value: Double, at minute: Int64) {
    if rows == 0 {
      mean = value
      rhythmLevel = value
    }
    let off = bounded(value - mean, Self.most, variance)
    mean += Self.rate * off
    variance = (1 - Self.rate) * (variance + Self.rate * off * off)
    if let above = rhythm.value(at: minute, step: step) {
      let error = value - rhythmLevel - above
      let spread = rhythmVariance
      rhythmLevel += Self.rate * bounded(error, Self.mostOfRhythm, spread)
      let known = bounded(error, Self.most, spread)
      rhythmVariance = (1 - Self.rate) * (spread + Self.rate * known * known)
    } else {
      rhythmLevel += Self.rate * off
    }
    let most = Self.mostOfRhythm * rhythmVariance.squareRoot()
    rhythm.learn(
      value - rhythmLevel, at: minute, step: step, most: most > 0 ? most : .infinity)
    rows += 1
  }

  /// Early on nothing is known of what is far.
  private func bounded(_ off: Double, _ deviations: Double, _ variance: Double) -> Double {
    guard rows > Self.warmUp, variance > 0 else { return off }
    let most = deviations * variance.squareRoot()
    return min(max(off, -most), most)
  }

  private mutating func score(_ deviation: Double) -> Double {
    let size = abs(deviation)
    let score = 1 - Double.exp2(-size / Self.deviations)
    if isOpen {
      quietRows = size < Self.back * Self.deviations ? quietRows + 1 : 0
      if quietRows >= Self.backRows { isOpen = false }
      return min(score, 0.499)
    }
    guard size >= Self.deviations else { return min(score, 0.499) }
    isOpen = true
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
