/// Signs statements, so that a customer can prove what was invoiced.
///
/// It uses the key of verdicts, so that an operator has no third key to keep and to rotate.
/// Statements and verdicts are both answers of the services, neither grants access, and `typ`
/// distinguishes them.
package struct StatementSigner: Sendable {
  private let signer: CompactJWS.Signer

  /// Returns nil if the set has no private key for verdicts.
  package init?(keys: JSONWebKeySet) {
    guard let key = keys.signingKey(for: .verdict),
      let signer = CompactJWS.Signer(key: key, type: "statement+jwt")
    else { return nil }
    self.signer = signer
  }

  /// A compact JWS over a statement's canonical JSON. Nil if the system has no randomness.
  package func sign(_ canonicalJSON: [UInt8]) -> String? {
    signer.sign(canonicalJSON).map { String(decoding: $0, as: UTF8.self) }
  }
}
