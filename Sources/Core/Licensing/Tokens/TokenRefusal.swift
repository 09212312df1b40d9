/// Why a token is not believed. Words for whoever sent it; nothing of the token.
public enum TokenRefusal: String, Error, Sendable, CaseIterable, CustomStringConvertible {
  case tooLarge = "the token is longer than 8 KiB"
  case notCompact = "not a compact JWS: three parts of base64url with dots between them"
  case badHeader = "the header is not a JSON object with the members that RFC 7515 asks for"
  case unsupportedAlgorithm = "the algorithm is none of EdDSA, ES256 and RS256"
  case critical = "the header asks for an extension that is not known here (crit)"
  case wrongType = "the token is of another type"
  case unknownKey = "no key with the token's kid is known"
  case algorithmMismatch = "the algorithm is not the one of the key"
  case badSignature = "the signature does not fit"
  case badClaims = "the claims are not those of a license"

  /// One sentence.
  public var description: String { rawValue }
}
