/// Why a token is not accepted, in words for the person who sent it. It contains nothing from the
/// token.
///
/// The words do not help a forger. Up to the signature they follow from the published keys and the
/// token's own header, and claims are read only after the signature was verified.
public enum TokenRefusal: Error, Sendable, Equatable, CustomStringConvertible {
  case tooLarge
  case notCompact
  case badHeader
  case unsupportedAlgorithm
  case critical
  case wrongType
  case unknownKey
  case algorithmMismatch
  case badSignature
  case badClaims(Claim)

  /// The claim that is wrong, or all claims.
  public enum Claim: String, Sendable, CaseIterable {
    case document = "claims"
    case repeated = "repeated claim"
    case subject = "sub"
    case domain
    case domains
    case plan
    case features
    case limits
    case issuedAt = "iat"
    case expiresAt = "exp"
    case notBefore = "nbf"
    case trial

    fileprivate var rule: String {
      switch self {
      case .document: "the claims are not a JSON object"
      case .repeated: "a claim occurs twice"
      case .subject: "sub must be the license's id, a string of 1 to 512 bytes"
      case .domain: "domain must be a string, and several domains go into domains"
      case .domains: "domains must be an array of at most 100 strings"
      case .plan: "plan must be a string of 1 to 256 bytes"
      case .features: "features must be an array of at most 100 strings"
      case .limits: "limits must be an object of integers of 0 or more"
      case .issuedAt: "iat must be a NumericDate in seconds since 1970"
      case .expiresAt: "exp must be a NumericDate in seconds since 1970 and later than iat"
      case .notBefore: "nbf must be a NumericDate in seconds since 1970"
      case .trial: "trial must be true or false"
      }
    }
  }

  /// One sentence, without its first capital and full stop.
  public var description: String {
    switch self {
    case .tooLarge: "the token is longer than 8 KiB"
    case .notCompact: "it is not a compact JWS (three parts of base64url with dots between them)"
    case .badHeader: "the header is not a JSON object with the members that RFC 7515 asks for"
    case .unsupportedAlgorithm: "the algorithm (alg) must be EdDSA, Ed25519, ES256 or RS256"
    case .critical: "the header asks for an unknown extension (crit)"
    case .wrongType: "the token has another type (typ)"
    case .unknownKey: "there is no key with the token's key id (kid) for this purpose"
    case .algorithmMismatch: "the algorithm (alg) does not fit the key"
    case .badSignature: "the signature does not match the token and the key"
    case .badClaims(let claim): claim.rule
    }
  }

  /// The name that all SDKs give it.
  package var code: String {
    switch self {
    case .tooLarge: "too_large"
    case .notCompact: "not_compact"
    case .badHeader: "bad_header"
    case .unsupportedAlgorithm: "unsupported_algorithm"
    case .critical: "critical"
    case .wrongType: "wrong_type"
    case .unknownKey: "unknown_key"
    case .algorithmMismatch: "algorithm_mismatch"
    case .badSignature: "bad_signature"
    case .badClaims: "bad_claims"
    }
  }
}
