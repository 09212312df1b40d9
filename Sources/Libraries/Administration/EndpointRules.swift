import SystemRandom
package import WebhookDelivery

/// What endpoints are judged by, from the settings that the dispatcher reads as well.
package struct EndpointRules: Sendable {
  package var policy: TargetAddressPolicy
  package var allowsHTTP: Bool
  /// Seals secrets; nil: none can be made.
  package var box: SecretBox?

  package init(policy: TargetAddressPolicy, allowsHTTP: Bool, box: SecretBox?) {
    self.policy = policy
    self.allowsHTTP = allowsHTTP
    self.box = box
  }

  /// The URL as it will be sent to. Names are resolved and checked when webhooks are sent.
  func checkedURL(_ text: String) throws -> String {
    do {
      return try WebhookURL(text, policy: policy, allowsHTTP: allowsHTTP).description
    } catch {
      throw AdministrationRefusal.invalid("url", "\(error)")
    }
  }

  /// Types of alerts, each once; `*` and none stand for all.
  static func checkedEvents(_ events: [String]) throws -> [String] {
    var result: [String] = []
    for event in events {
      guard event == "*" || AlertType.known.contains(event) else {
        throw AdministrationRefusal.invalid(
          "events", "must be among *, \(AlertType.known.joined(separator: ", "))")
      }
      if !result.contains(event) { result.append(event) }
    }
    return result
  }

  /// A new secret, and what of it is stored.
  func newSecret(
    _ scheme: SigningSecret.Scheme, endpoint: String
  ) throws -> (verifier: String, sealed: [UInt8]) {
    guard let box else {
      throw AdministrationRefusal(
        .unavailable, "no_encryption_key",
        "secrets are stored encrypted, so METER_ENCRYPTION_KEY must be set as for the dispatcher")
    }
    let secret = try SigningSecret(
      scheme: scheme, bytes: SystemRandom.bytes(SigningSecret.newSecretBytes))
    let sealed = try box.seal(
      secret, endpoint: endpoint, nonce: SystemRandom.bytes(SecretBox.nonceBytes))
    return (secret.verifier, sealed)
  }
}
