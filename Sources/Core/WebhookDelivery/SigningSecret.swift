import Crypto

/// The secret that signs an endpoint's webhooks, as in the Standard Webhooks specification 1.0.
///
/// Its text is `whsec_` and base64 of 24 to 64 bytes for `v1` (HMAC-SHA256), or `whsk_` and base64
/// of 32 bytes for `v1a` (Ed25519).
package struct SigningSecret: Sendable, Equatable, CustomStringConvertible {
  package enum Scheme: String, Sendable, CaseIterable {
    case v1
    case v1a
  }

  package enum Invalid: Error, Sendable, Equatable, CustomStringConvertible {
    case prefix
    case base64
    case length

    package var description: String {
      switch self {
      case .prefix: "a secret begins with whsec_ (v1) or whsk_ (v1a)"
      case .base64: "what follows the prefix of a secret is base64 with padding"
      case .length: "a whsec_ secret has 24 to 64 bytes, a whsk_ key 32"
      }
    }
  }

  /// The length of a new secret. HMAC gains nothing from more bytes than its hash has.
  package static let newSecretBytes = 32

  package let scheme: Scheme
  package let bytes: [UInt8]

  package init(scheme: Scheme, bytes: [UInt8]) throws(Invalid) {
    let fits = scheme == .v1 ? 24...64 : 32...32
    guard fits.contains(bytes.count) else { throw .length }
    self.scheme = scheme
    self.bytes = bytes
  }

  package init(text: String) throws(Invalid) {
    let scheme: Scheme
    if text.hasPrefix("whsec_") {
      scheme = .v1
    } else if text.hasPrefix("whsk_") {
      scheme = .v1a
    } else {
      throw .prefix
    }
    guard let bytes = Base64.decode(text.dropFirst(scheme == .v1 ? 6 : 5)) else { throw .base64 }
    try self.init(scheme: scheme, bytes: bytes)
  }

  /// The secret itself.
  package var text: String { (scheme == .v1 ? "whsec_" : "whsk_") + Base64.encode(bytes) }

  /// The text that a receiver verifies with. It is the secret itself for `v1`, and the public key
  /// (`whpk_`) for `v1a`.
  package var verifier: String {
    guard scheme == .v1a, let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes)
    else { return text }  // Any 32 bytes are an Ed25519 seed, so this always works.
    return "whpk_" + Base64.encode(Array(key.publicKey.rawRepresentation))
  }

  /// The description does not contain the secret, because it may end up in a log.
  package var description: String { "\(scheme.rawValue) secret" }
}
