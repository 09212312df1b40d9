import Metering

/// The types of alerts that an endpoint may ask for. docs/webhooks.md describes each of them for
/// customers.
package enum AlertType {
  package static let known = [
    "license.limit_approaching", "license.limit_exceeded", "license.expiring",
    "license.grace_started", "license.expired", "license.suspicious_activity",
    "usage.anomaly", "webhook.endpoint_disabled", "webhook.test",
  ]
}

/// The id of an endpoint is `ep_` and random hexadecimal digits, so that nobody can guess it.
package enum EndpointID {
  package static let randomBytes = 12

  package static func make(_ random: [UInt8]) -> String {
    "ep_" + Hexadecimal.text(random)
  }
}
