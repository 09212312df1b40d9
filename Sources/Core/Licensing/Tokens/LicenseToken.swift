/// Verifies license JWTs: no network, no clock; whether a license has expired is the verdict's to
/// say (`LicenseTerms`).
public struct LicenseVerifier: Sendable {
  private let keys: [JSONWebKey]

  /// - Parameter keys: those with purpose `license` are used; public ones do.
  public init(keys: JSONWebKeySet) {
    self.keys = keys.keys.filter { $0.purpose == .license }.map(\.publicKey)
  }

  /// - Parameter token: a compact JWS whose `typ` is absent, `JWT` or `license+jwt`.
  /// - Throws: `TokenRefusal`.
  public func verify(_ token: String) throws(TokenRefusal) -> LicenseClaims {
    let payload = try CompactJWS.verify(token, keys: keys, types: [nil, "jwt", "license+jwt"])
    return try LicenseClaims(payload: payload)
  }
}

/// Makes license JWTs.
public struct LicenseSigner: Sendable {
  private let signer: CompactJWS.Signer

  /// Nil where the set has no private key for licenses.
  public init?(keys: JSONWebKeySet) {
    guard let key = keys.signingKey(for: .license),
      let signer = CompactJWS.Signer(key: key, type: "license+jwt")
    else { return nil }
    self.signer = signer
  }

  /// Nil where the system has no randomness, or the token would be longer than verifiers take (8
  /// KiB).
  public func token(_ claims: LicenseClaims) -> String? {
    guard let token = signer.sign(claims.payload), token.count <= CompactJWS.maximumBytes else {
      return nil
    }
    return String(decoding: token, as: UTF8.self)
  }
}
