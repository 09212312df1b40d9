import SystemRandom
package import WebhookDelivery

/// The rules for endpoints, from settings that the dispatcher reads as well.
package struct EndpointRules: Sendable {
  package var policy: TargetAddressPolicy
  package var allowsHTTP: Bool
  /// Seals secrets. If it is nil, no secrets can be made.
  package var box: SecretBox?

  package init(policy: TargetAddressPolicy, allowsHTTP: Bool, box: SecretBox?) {
    self.policy = policy
    self.allowsHTTP = allowsHTTP
    self.box = box
  }

  /// Checks a URL and returns it as it will be used. Names are resolved and checked when webhooks
  /// are sent.
  func checkedURL(_ text: String) throws -> String {
    do {
      return try WebhookURL(text, policy: policy, allowsHTTP: allowsHTTP).description
    } catch {
      throw AdministrationRefusal.invalid("url", "\(error)")
    }
  }

  /// Checks types of alerts and returns each once. `*` and an empty list stand for all types.
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

  /// Makes a new secret and its stored form.
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
