/// How far values lie from what was expected of them: exponential means of the squares and of the
/// sizes.
struct ErrorSize: Sendable {
  var variance = 0.0
  var meanSize = 0.0

  /// What the mean size of normal errors is multiplied by to be their standard deviation.
  static let normal = (Double.pi / 2).squareRoot()

  /// It is the standard deviation where errors are normal. Where a few are far larger than the others
  /// it is less, because one half comes from the mean size, which they move less.
  var spread: Double { (variance.squareRoot() + Self.normal * meanSize) / 2 }

  mutating func learn(_ error: Double, share: Double) {
    variance = (1 - share) * (variance + share * error * error)
    meanSize += share * (abs(error) - meanSize)
  }
}
