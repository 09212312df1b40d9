/// Signs statements, so that a customer can prove what was invoiced.
///
/// The key is the one of verdicts: both are answers of the services and neither lets anybody in,
/// and `typ` keeps them apart, so that an operator has no third key to keep and to rotate.
package struct StatementSigner: Sendable {
  private let signer: CompactJWS.Signer

  /// Nil where the set has no private key for verdicts.
  package init?(keys: JSONWebKeySet) {
    guard let key = keys.signingKey(for: .verdict),
      let signer = CompactJWS.Signer(key: key, type: "statement+jwt")
    else { return nil }
    self.signer = signer
  }

  /// A compact JWS over a statement's canonical JSON; nil where the system has no randomness.
  package func sign(_ canonicalJSON: [UInt8]) -> String? {
    signer.sign(canonicalJSON).map { String(decoding: $0, as: UTF8.self) }
  }
}
