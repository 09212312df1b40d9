import RealModule

/// Judges a series of numbers row by row: no look ahead, no settings of a series, constant memory.
///
/// Three questions are asked of each row, each answered by a tail probability under the series' own past (`TailEstimate`):
/// - Does the value lie far from the long-run level?
/// - Has the short-run level left the long-run level, by what is usual between the two?
/// - Do neighboring values differ much more, or much less, than they used to?
///
/// The mean of the three −ln probabilities, each at most 12, is the evidence. docs/decisions/0004-anomaly-detection.md says what else was tried.
public struct SeriesDetector: Sendable {
  /// The score from which a row is a detection: the evidence there is `evidenceThreshold`.
  public static let threshold = 0.5

  /// What was made of one row.
  public struct Judgement: Equatable, Sendable {
    /// In [0, 1]: 1 − 2^(−evidence / threshold evidence). Rows behind a detection stay below the threshold while nothing much stronger comes: an anomaly is
    /// told once.
    public let score: Double
    /// The level that was expected.
    public let expected: Double
    /// How far off it rows lie at most, 19 of 20 of them.
    public let spread: Double

    /// Whether the score reaches the threshold.
    public var isDetection: Bool { score >= SeriesDetector.threshold }
  }

  private static let evidenceThreshold = 2.815
  private static let mostEvidence = 12.0
  /// Rows for which a detection silences the next, unless that is stronger by `escalation`.
  private static let silentRows = 100
  private static let escalation = 3.0
  // Spans of exponential means, in rows: 2 / (span + 1) is the weight of the newest.
  private static let shortLevel = 2.0 / 25
  private static let longLevel = 2.0 / 1001
  private static let shortVariation = 2.0 / 9
  private static let longVariation = 2.0 / 151

  private var rows = 0.0
  private var previous = 0.0
  private var short = 0.0
  private var long = 0.0
  private var usualShift = 0.0
  private var variation = 0.0
  private var usualVariation = 0.0
  private var deviationTail = TailEstimate(share: 0.05, rate: 0.0005)
  private var shiftTail = TailEstimate(share: 0.02, rate: 0.0005)
  private var variationTail = TailEstimate(share: 0.02, rate: 0.0005)
  private var sinceDetection = Int.max
  private var lastEvidence = 0.0

  /// A detector that has seen nothing: it judges no row before its fiftieth.
  public init() {}

  /// Judges a row by those before it, then learns it. A value that is not finite is judged as no anomaly and not learnt.
  public mutating func observe(_ value: Double) -> Judgement {
    guard value.isFinite else { return Judgement(score: 0, expected: long, spread: 0) }
    if rows == 0 {
      previous = value
      short = value
      long = value
    }
    let expected = long
    let spread = rows == 0 ? 0 : deviationTail.quantile
    let deviation = deviationTail.surprise(abs(value - long))
    let shift = abs(short - long)
    let shifted = shiftTail.surprise(shift / (usualShift + abs(long) * 1e-3 + 1e-9))
    let varied = variationTail.surprise(variationRatio)
    learn(value, shift)
    let most = Self.mostEvidence
    let evidence = (min(deviation, most) + min(shifted, most) + min(varied, most)) / 3
    return Judgement(score: score(evidence), expected: expected, spread: spread)
  }

  /// How many times more, or less, neighbors differ than usual.
  private var variationRatio: Double {
    guard usualVariation > 0 else { return 0 }
    let more = (variation + usualVariation * 1e-3 + 1e-12) / (usualVariation + 1e-12)
    let less = (usualVariation + 1e-12) / (variation + usualVariation * 1e-2 + 1e-12)
    return max(more, less)
  }

  private mutating func learn(_ value: Double, _ shift: Double) {
    rows += 1
    // Early on, plain means: each row counts alike.
    let first = 1 / rows
    usualShift += max(Self.longLevel, first) * (shift - usualShift)
    short += max(Self.shortLevel, first) * (value - short)
    long += max(Self.longLevel, first) * (value - long)
    let step = abs(value - previous)
    variation += max(Self.shortVariation, first) * (step - variation)
    usualVariation += max(Self.longVariation, first) * (step - usualVariation)
    previous = value
  }

  private mutating func score(_ evidence: Double) -> Double {
    let score = 1 - Double.exp2(-evidence / Self.evidenceThreshold)
    if sinceDetection < Int.max { sinceDetection += 1 }
    guard evidence >= Self.evidenceThreshold else { return min(score, 0.499) }
    guard sinceDetection > Self.silentRows || evidence >= lastEvidence + Self.escalation else {
      return 0.499
    }
    sinceDetection = 0
    lastEvidence = evidence
    return max(score, Self.threshold)
  }
}
