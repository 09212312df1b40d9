import RealModule

/// The log likelihood ratio of a minute's calls n, in nats, between two hypotheses: the rate is k
/// times the expectation, or it is as expected.
///
/// Both are negative binomial with means kμ and μ and the same dispersion α (variance μ + αμ²; r =
/// 1/α):
///
///     ln NB(n; kμ, r) − ln NB(n; μ, r) = n ln[k (1 + αμ) / (1 + αkμ)] − r ln[(1 + αkμ) / (1 + αμ)]
///
/// This is linear in n, so the count at which a minute becomes a burst takes one division. For a
/// small α it is the Poisson ratio n ln k − (k − 1)μ.
struct Evidence {
  var perCall: Float
  var fixed: Float

  /// A hypothesis: the rate is `factor` times the expectation.
  struct Hypothesis: Sendable {
    let factor: Float
    let logFactor: Float

    init(factor: Float) {
      self.factor = factor
      logFactor = Float.log(factor)
    }
  }

  init(mean: Float, dispersion: Float, _ hypothesis: Hypothesis) {
    // ln[k (1 + αμ) / (1 + αkμ)], without the cancellation that a large αμ would cause.
    let factor = hypothesis.factor
    perCall = Float.log(onePlus: (factor - 1) / (1 + dispersion * factor * mean))
    fixed = (hypothesis.logFactor - perCall) / dispersion
  }

  func of(_ calls: Float) -> Float { calls * perCall - fixed }
}
