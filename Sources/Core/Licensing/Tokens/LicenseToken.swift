/// Verifies license JWTs without network and clock. The verdict decides whether a license has
/// expired (`LicenseTerms`).
public struct LicenseVerifier: Sendable {
  private let keys: [JSONWebKey]

  /// - Parameter keys: the keys with purpose `license` are used. Public keys are enough.
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

  /// Returns nil if the set has no private key for licenses.
  public init?(keys: JSONWebKeySet) {
    guard let key = keys.signingKey(for: .license),
      let signer = CompactJWS.Signer(key: key, type: "license+jwt")
    else { return nil }
    self.signer = signer
  }

  /// Returns nil if the system has no randomness, or if the token would be longer than verifiers
  /// accept (8 KiB).
  public func token(_ claims: LicenseClaims) -> String? {
    guard let token = signer.sign(claims.payload), token.count <= CompactJWS.maximumBytes else {
      return nil
    }
    return String(decoding: token, as: UTF8.self)
  }
}
