/// Decides by Stripe's own sum of an hour whether events without an answer have arrived.
package enum StripeSettlement: Sendable, Equatable {
  /// All of them have arrived.
  case arrived
  /// None of them has arrived, so each may be sent as a new event.
  case lost
  /// The sum fits neither case. Somebody else sends events with the same name, or only some have
  /// arrived.
  case unclear

  /// - Parameters:
  ///   - accepted: the quantity that Stripe is known to have for the hour.
  ///   - values: the values of the events in doubt.
  ///   - stripe: Stripe's sum, or 0 if it has none.
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
