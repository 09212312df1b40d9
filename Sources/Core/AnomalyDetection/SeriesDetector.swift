import RealModule

/// Judges a series of numbers row by row: no look ahead, no settings of a series, constant memory.
///
/// Six questions are asked of each row, each answered by a tail probability under the series' own
/// past (`TailEstimate`):
/// - deviation: does the value lie far from the level of late (400 rows)?
/// - density: have the last few values lain further out than values use to?
/// - shift: has the short-run level (50 rows) left the long-run level (2 500 rows), by what is
///   usual between the two?
/// - more, less: do neighboring values differ much more, or much less, than they used to (20 rows
///   against 150)?
/// - transition: do values follow each other as they did not before (`LevelTransitions`)?
///
/// The mean of the six −ln probabilities is the evidence. (Fisher 1925 adds them up likewise, for
/// independent questions; these are not, so the threshold was found by trial.) The threshold rises
/// with the detections that the series had: what fires often must be stronger to be told.
/// docs/decisions/0004-anomaly-detection.md says how this was found and how far to trust it.
public struct SeriesDetector: Sendable {
  /// The score from which a row is a detection: the evidence there is the threshold of the series.
  public static let threshold = 0.5

  /// What was made of one row.
  public struct Judgement: Equatable, Sendable {
    /// In [0, 1]: 1 − 2^(−evidence / threshold of the evidence). Rows behind a detection stay below
    /// the threshold while nothing much stronger comes: an anomaly is told once.
    public let score: Double
    /// The level that was expected.
    public let expected: Double
    /// How far off it rows lie at most, nine of ten of them.
    public let spread: Double

    /// Whether the score reaches the threshold.
    public var isDetection: Bool { score >= SeriesDetector.threshold }
  }

  private static let evidenceThreshold = 2.25
  /// The share by which a detection raises the threshold at first; it fades as rows are added.
  private static let habituation = 0.05
  /// A detection silences the next rows, this many or this share of those seen, unless one brings
  /// more evidence than it by `escalation`.
  private static let silentRows = 20.0
  private static let silentShare = 0.025
  private static let escalation = 3.0
  // Spans of exponential means, in rows: 2 / (span + 1) is the weight of the newest.
  private static let recentRate = 2.0 / 401
  private static let shortRate = 2.0 / 51
  private static let longRate = 2.0 / 2501
  private static let variationRate = 2.0 / 21
  private static let usualVariationRate = 2.0 / 151
  private static let densityRate = 2.0 / 6
  /// Values beyond this are taken for it: their differences must fit a `Float`.
  private static let largest = 1e30

  private var rows = 0.0
  private var previous = 0.0
  private var recent = 0.0
  private var short = 0.0
  private var long = 0.0
  private var usualShift: Float = 0
  private var variation: Float = 0
  private var usualVariation: Float = 0
  private var density: Float = 0
  private var deviationTail = TailEstimate()
  private var densityTail = TailEstimate()
  private var shiftTail = TailEstimate()
  private var moreTail = TailEstimate()
  private var lessTail = TailEstimate()
  private var transitionTail = TailEstimate()
  private var transitions = LevelTransitions(first: 0)
  /// The row of the last detection, 0 for none, and its evidence.
  private var lastDetection = 0.0
  private var lastEvidence: Float = 0
  /// The sum of the row numbers of all detections.
  private var detectionRows = 0.0

  /// A detector that has seen nothing: it judges no row before it has seen fifty.
  public init() {}

  /// Judges a row by those before it, then learns it. A value that is not finite is judged as no
  /// anomaly and not learnt. The time of the row is not used: a residual by time of day gained
  /// nothing on the labelled series.
  public mutating func observe(_ value: Double, at minutes: Int64?) -> Judgement { observe(value) }

  /// Judges a row by those before it, then learns it. A value that is not finite is judged as no
  /// anomaly and not learnt.
  public mutating func observe(_ value: Double) -> Judgement {
    guard value.isFinite else { return Judgement(score: 0, expected: recent, spread: 0) }
    let value = min(max(value, -Self.largest), Self.largest)
    if rows == 0 {
      previous = value
      recent = value
      short = value
      long = value
      transitions = LevelTransitions(first: value)
    }
    let expected = recent
    let spread = deviationTail.usualMost
    let evidence = evidence(value)
    return Judgement(score: score(evidence), expected: expected, spread: spread)
  }

  /// The mean of the six answers; learns the value.
  private mutating func evidence(_ value: Double) -> Double {
    let before = rows
    let deviation = deviationTail.surprise(abs(value - recent), after: before)
    let shift = abs(short - long)
    let usual = Double(usualShift) + abs(long) * 1e-3 + 1e-9
    let shifted = shiftTail.surprise(shift / usual, after: before)
    let (more, less) = variationRatios
    let varied = moreTail.surprise(more, after: before)
    let stilled = lessTail.surprise(less, after: before)
    learn(value, shift)
    Self.learn(&density, deviation, Self.densityRate, rows)
    let dense = densityTail.surprise(Double(density) + 1e-3, after: before)
    let odd = transitionTail.surprise(transitions.surprise(value, rows), after: before)
    return (deviation + shifted + varied + stilled + dense + odd) / 6
  }

  /// How many times more than usual neighbors differ, and how many times less.
  private var variationRatios: (more: Double, less: Double) {
    guard usualVariation > 0 else { return (0, 0) }
    let now = Double(variation)
    let usual = Double(usualVariation)
    return (
      (now + usual * 1e-3 + 1e-12) / (usual + 1e-12),
      (usual + 1e-12) / (now + usual * 1e-2 + 1e-12)
    )
  }

  private mutating func learn(_ value: Double, _ shift: Double) {
    rows += 1
    // Early on, plain means: each row counts alike.
    let first = 1 / rows
    recent += max(Self.recentRate, first) * (value - recent)
    short += max(Self.shortRate, first) * (value - short)
    long += max(Self.longRate, first) * (value - long)
    Self.learn(&usualShift, shift, Self.longRate, rows)
    let step = abs(value - previous)
    Self.learn(&variation, step, Self.variationRate, rows)
    Self.learn(&usualVariation, step, Self.usualVariationRate, rows)
    previous = value
  }

  private static func learn(_ mean: inout Float, _ value: Double, _ rate: Double, _ rows: Double) {
    mean = Float(Double(mean) + max(rate, 1 / rows) * (value - Double(mean)))
  }

  /// Each detection, at row t of n so far, raises the threshold by the share 0.05 t / n: fully at
  /// first, half when the rows have doubled.
  private mutating func score(_ evidence: Double) -> Double {
    let threshold = Self.evidenceThreshold * (1 + Self.habituation * detectionRows / rows)
    let score = 1 - Double.exp2(-evidence / threshold)
    guard evidence >= threshold else { return min(score, 0.499) }
    let silent = max(Self.silentRows, Self.silentShare * rows)
    guard
      lastDetection == 0 || rows - lastDetection > silent
        || evidence >= Double(lastEvidence) + Self.escalation
    else { return 0.499 }
    lastDetection = rows
    lastEvidence = Float(evidence)
    detectionRows += rows
    return max(score, Self.threshold)
  }
}
