import RealModule

/// How far out a value lies among its own past: an online estimate of the upper tail of a stream of sizes, in constant memory.
///
/// The (1−q)-quantile of ln x is followed by stochastic approximation (Robbins and Monro 1951); beyond it the tail is taken for a power law, so
/// that the excesses of ln x are exponential, and their mean is Hill's estimate (Hill 1975) with forgetting.
struct TailEstimate: Equatable, Sendable {
  /// The share of values beyond the quantile.
  private let share: Double
  /// How much of the past a new value replaces, once there is enough of it.
  private let rate: Double
  private(set) var logQuantile = 0.0
  private var slope = 0.5
  private var exceedances = 0.0
  private var count = 0.0

  /// Values before nothing is judged.
  private static let warmUp = 50.0

  init(share: Double, rate: Double) {
    self.share = share
    self.rate = rate
  }

  /// The quantile itself.
  var quantile: Double { Double.exp(logQuantile) }

  /// −ln of the probability of a value at least this large, by the past alone; 0 within the quantile. Then learns it.
  mutating func surprise(_ size: Double) -> Double {
    let x = size <= 1e-12 ? -27.6 : Double.log(size)
    var surprise = 0.0
    if count < Self.warmUp {
      if count == 0 { logQuantile = x }
    } else if x > logQuantile {
      surprise = -Double.log(share) + (x - logQuantile) / max(slope, 0.05)
    }
    learn(x)
    return surprise
  }

  private mutating func learn(_ x: Double) {
    count += 1
    let step = max(slope, 0.1) * max(rate, 1 / (count + 1))
    guard x > logQuantile else {
      logQuantile -= step
      return
    }
    logQuantile += step * (1 - share) / share
    exceedances += 1
    // One outlier must not teach that outliers are usual.
    let excess = min(max(x - logQuantile, 0), 3)
    slope += (excess - slope) * min(max(rate / share * 0.5, 1 / (exceedances + 3)), 0.5)
  }
}
