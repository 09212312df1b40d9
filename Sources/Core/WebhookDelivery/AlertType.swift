import Metering

/// The types of alerts that an endpoint may ask for; docs/webhooks.md tells customers of each.
package enum AlertType {
  package static let known = [
    "license.limit_approaching", "license.limit_exceeded", "license.expiring",
    "license.grace_started", "license.expired", "license.suspicious_activity",
    "usage.anomaly", "webhook.endpoint_disabled", "webhook.test",
  ]
}

/// `ep_` and random hexadecimal digits: not to be guessed from another.
package enum EndpointID {
  package static let randomBytes = 12

  package static func make(_ random: [UInt8]) -> String {
    "ep_" + Hexadecimal.text(random)
  }
}
