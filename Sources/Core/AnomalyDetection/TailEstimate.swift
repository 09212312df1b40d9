import RealModule

/// How far out a size lies among its own past: the upper tail of a stream of sizes, in twelve
/// bytes.
///
/// With x = ln(size), two quantiles of x are followed by stochastic approximation (Robbins and
/// Monro 1951, https://doi.org/10.1214/aoms/1177729586): `body`, which one size in ten exceeds, and
/// `edge`, which one in a hundred does. −ln of the probability of a larger size is taken for linear
/// in x between the two, and so beyond, where 1 / slope is the mean excess of x over `edge` (Hill
/// 1975, https://doi.org/10.1214/aos/1176343247): a power law in the size itself.
struct TailEstimate: Equatable, Sendable {
  private var body: Float = 0
  private var edge: Float = 0
  /// The mean excess over `edge`; 0 while there was no size but zero.
  private var slope: Float = 0

  /// Sizes before nothing is judged.
  static let warmUp = 50.0
  /// The most that one question may say: e⁻¹² is a chance of 1 : 160 000, more than any series has
  /// rows to bear out.
  static let most = 12.0

  private static let bodyShare = 0.1
  private static let edgeShare = 0.01
  /// ln of how much rarer the edge is than the body.
  private static let decade = 2.302585092994046
  /// The share of the past that a new size replaces at least.
  private static let rate = 0.0002
  /// Steps are no narrower than this, so that an estimate can leave a wrong place; wider at first.
  private static let firstWidth = 0.3
  private static let leastWidth = 0.1
  /// Nearer than this, in ln, sizes are not told apart.
  private static let resolution = 0.05
  /// Sizes up to 1e-12 are zero.
  private static let nothing = -27.6

  /// The size that one in ten exceeds.
  var usualMost: Double { slope == 0 ? 0 : Double.exp(Double(body)) }

  /// −ln of the probability of a size at least this large, by the `rows` sizes before it alone; 0
  /// within the body. Then learns it.
  mutating func surprise(_ size: Double, after rows: Double) -> Double {
    let x = size <= 1e-12 ? Self.nothing : Double.log(size)
    guard slope > 0 else { return first(x, rows) }
    let body = Double(self.body)
    let gap = max(Double(edge) - body, Self.resolution)
    var surprise = 0.0
    if rows >= Self.warmUp, x > body {
      // The tail is never taken for thinner than what leads to it.
      let width = max(Double(slope), max(Self.resolution, gap / Self.decade))
      surprise = Self.decade
      surprise +=
        x < body + gap ? (x - body) / gap * Self.decade : Self.decade + (x - body - gap) / width
    }
    learn(x, rows)
    return min(surprise, Self.most)
  }

  /// What never happened in so many rows has a chance of one in as many.
  private mutating func first(_ x: Double, _ rows: Double) -> Double {
    guard x > Self.nothing else { return 0 }
    body = Float(x)
    edge = Float(x)
    slope = Float(Self.firstWidth)
    return rows >= Self.warmUp ? min(Double.log(rows), Self.most) : 0
  }

  private mutating func learn(_ x: Double, _ rows: Double) {
    let rate = max(Self.rate, 1 / (rows + 2))
    let least = rows < Self.warmUp ? Self.firstWidth : Self.leastWidth
    let bodyWidth = max((Double(edge) - Double(body)) / Self.decade, least)
    let excess = x - Double(edge)
    let edgeWidth = max(Double(slope), least)
    Self.follow(&body, x, bodyWidth * rate, Self.bodyShare)
    Self.follow(&edge, x, edgeWidth * rate, Self.edgeShare)
    if excess > 0 {
      let share = Self.edgeShare
      let weight = min(max(Self.rate / share * 0.5, 1 / (rows * share + 4)), 0.5)
      // One outlier must not teach that outliers are usual.
      slope += Float((min(excess, 3) - Double(slope)) * weight)
    }
    if edge < body { edge = body }
  }

  /// A step up when exceeded, by as much more than one down as exceeding is rarer, but not past x:
  /// at the quantile they cancel.
  private static func follow(_ quantile: inout Float, _ x: Double, _ step: Double, _ share: Double)
  {
    let q = Double(quantile)
    guard x > q else {
      quantile = Float(q - step)
      return
    }
    quantile = Float(q + min(step * (1 - share) / share, max(x - q, 0.02)))
  }
}
