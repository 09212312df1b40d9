package import Billing
package import ServiceRuntime
package import WebhookDelivery

/// The address of Stripe, the key, and the meters to export.
///
/// Neither its description nor its errors contain the key.
package struct StripeSettings: Sendable, CustomStringConvertible {
  package let base: WebhookURL
  package let meters: StripeMeters
  let key: String

  package var description: String { base.description }

  /// - Returns: nil if `METER_STRIPE_API_KEY` is not set.
  /// - Throws: `ConfigurationError` with one line that names the variable and does not contain the
  ///   key.
  package init?(_ settings: Settings) throws {
    let key = try settings[DeclaredSettings.stripeAPIKey]
    let base = try settings[DeclaredSettings.stripeAPIBase]
    let names = try settings[DeclaredSettings.stripeMeters]
    let meters: StripeMeters
    do {
      meters = try StripeMeters(names)
    } catch {
      throw ConfigurationError("METER_STRIPE_METERS: \(error)")
    }
    let address = try Self.address(base, key: key ?? "")
    guard let key else { return nil }
    guard (1...512).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else {
      throw ConfigurationError("METER_STRIPE_API_KEY must be a Stripe secret key")
    }
    self.key = key
    self.base = address
    self.meters = meters
  }

  private static func address(_ text: String, key: String) throws -> WebhookURL {
    do {
      let policy = try TargetAddressPolicy(cidrs: "0.0.0.0/0,::/0")
      let url = try WebhookURL(text, policy: policy, allowsHTTP: true)
      guard !url.pathAndQuery.contains("?") else {
        throw ConfigurationError("METER_STRIPE_API_BASE must not contain a query")
      }
      let isLoopback = url.host == "localhost" || url.host == "::1" || url.host.hasPrefix("127.")
      if !url.isTLS, !isLoopback, key.contains("_live_") {
        throw ConfigurationError("METER_STRIPE_API_BASE must begin with https:// for a live key")
      }
      return url
    } catch let error as WebhookURL.Refusal {
      throw ConfigurationError("METER_STRIPE_API_BASE: \(error)")
    }
  }

  /// The target of a path of Stripe's API, below the path of the base address.
  func target(_ path: String) -> String {
    var prefix = base.pathAndQuery
    while prefix.hasSuffix("/") { prefix.removeLast() }
    return prefix + path
  }
}
