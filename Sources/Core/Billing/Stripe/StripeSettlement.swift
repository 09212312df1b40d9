/// Whether events that were never answered have arrived, by Stripe's own sum of their hour.
package enum StripeSettlement: Sendable, Equatable {
  /// All of them are there.
  case arrived
  /// None of them is there, so that each may be sent as a new one.
  case lost
  /// The sum fits neither: somebody else sends under the same name, or some arrived and some did
  /// not.
  case unclear

  /// - Parameters:
  ///   - accepted: what Stripe is known to have of the hour.
  ///   - values: of the events in doubt.
  ///   - stripe: Stripe's sum; 0 where it has none.
  package static func of(
    mode: StripeMode, accepted: Int64, values: [Int64], stripe: Int64?
  ) -> StripeSettlement {
    guard let stripe else { return .unclear }
    switch mode {
    case .sum:
      // Each value has at most 15 digits, so some thousands of them fit.
      let whole = values.reduce(accepted) { $0 + $1 }
      if stripe == whole { return .arrived }
      return stripe == accepted ? .lost : .unclear
    case .replace:
      // The whole hour may always be sent again.
      return values.last == stripe ? .arrived : .lost
    }
  }
}
