/// How far values are from their expectations: exponential means of the squares and of the sizes of
/// the errors.
struct ErrorSize: Sendable {
  var variance = 0.0
  var meanSize = 0.0

  /// The standard deviation of normal errors, as a multiple of their mean size.
  static let normal = (Double.pi / 2).squareRoot()

  /// The standard deviation if errors are normal. If a few errors are far larger than the others it
  /// is smaller, because half of it comes from the mean size, which outliers move less.
  var spread: Double { (variance.squareRoot() + Self.normal * meanSize) / 2 }

  mutating func learn(_ error: Double, share: Double) {
    variance = (1 - share) * (variance + share * error * error)
    meanSize += share * (abs(error) - meanSize)
  }
}
