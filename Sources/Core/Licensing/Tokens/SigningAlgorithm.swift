/// The signature algorithms of RFC 7518, RFC 8037 and RFC 9864 that are verified. `none` and every
/// HMAC are not among them. So neither a stripped signature nor a public key that is used as a
/// secret can pass.
public enum SigningAlgorithm: String, Sendable, CaseIterable {
  /// Ed25519, by the name of RFC 8037. Tokens and keys may also say `Ed25519`, the name of RFC
  /// 9864, for the same kind of key.
  case edDSA = "EdDSA"
  /// ECDSA on P-256 with SHA-256. The signature is `r ‖ s` with 64 bytes.
  case es256 = "ES256"
  /// RSASSA-PKCS1-v1_5 with SHA-256, 2,048 bits or more.
  case rs256 = "RS256"

  /// Finds the algorithm by the name that a header or a key gives it.
  init?(name: String) {
    self.init(rawValue: name == "Ed25519" ? "EdDSA" : name)
  }
}
