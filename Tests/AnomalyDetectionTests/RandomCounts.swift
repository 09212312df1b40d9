import Foundation
import MeteringTestKit

/// Random counts for scenarios.
struct RandomCounts {
  private var random: SeededRandom
  private var spare: Double?

  init(seed: UInt64) { random = SeededRandom(seed: seed) }

  /// A number in [0, 1).
  mutating func uniform() -> Double { Double(random.next() >> 11) * 0x1p-53 }

  mutating func uniform(_ range: ClosedRange<Double>) -> Double {
    range.lowerBound + (range.upperBound - range.lowerBound) * uniform()
  }

  mutating func logUniform(_ range: ClosedRange<Double>) -> Double {
    exp(uniform(log(range.lowerBound)...log(range.upperBound)))
  }

  mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

  /// Uses the polar method (Marsaglia and Bray 1964).
  mutating func normal() -> Double {
    if let known = spare {
      spare = nil
      return known
    }
    while true {
      let u = 2 * uniform() - 1
      let v = 2 * uniform() - 1
      let s = u * u + v * v
      guard s > 0, s < 1 else { continue }
      let factor = (-2 * log(s) / s).squareRoot()
      spare = v * factor
      return u * factor
    }
  }

  /// A number with mean 1 and variance 1 / shape (Marsaglia and Tsang 2000).
  mutating func gamma(shape: Double) -> Double {
    let d = max(shape, 1) - 1.0 / 3
    let c = 1 / (9 * d).squareRoot()
    while true {
      let x = normal()
      let root = 1 + c * x
      guard root > 0 else { continue }
      let v = root * root * root
      guard log(1 - uniform()) < 0.5 * x * x + d - d * v + d * log(v) else { continue }
      // A shape below 1 would need shape + 1. That is not needed here, where dispersion is at most
      // 1.
      return d * v / max(shape, 1)
    }
  }

  /// Inverts the distribution below 30. Above, it uses a normal number whose skewness is corrected
  /// (Cornish and Fisher 1938), which is within one count of the quantile.
  mutating func poisson(_ mean: Double) -> Int64 {
    guard mean > 0 else { return 0 }
    if mean >= 30 {
      let z = normal()
      return max(Int64((mean + z * mean.squareRoot() + (z * z - 1) / 6).rounded()), 0)
    }
    let limit = exp(-mean)
    var product = uniform()
    var count: Int64 = 0
    while product > limit {
      count += 1
      product *= uniform()
    }
    return count
  }

  /// Negative binomial: variance = mean + dispersion × mean².
  mutating func negativeBinomial(_ mean: Double, dispersion: Double) -> Int64 {
    poisson(dispersion > 0 ? mean * gamma(shape: 1 / dispersion) : mean)
  }

  /// A Poisson number of events with an exponential number of calls each, with that mean in total.
  mutating func compound(_ mean: Double, lump: Double) -> Int64 {
    let events = poisson(mean / lump)
    return (0..<events).reduce(0) { sum, _ in
      sum + 1 + Int64(-log(1 - uniform()) * (lump - 1))
    }
  }
}
