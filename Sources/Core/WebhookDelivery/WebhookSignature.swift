import Crypto

/// Makes the header `webhook-signature` of one attempt.
package enum WebhookSignature {
  /// Returns one signature for each secret, separated by blanks, in the order of the secrets. While
  /// a secret is being replaced, a receiver finds the signature that it can verify.
  ///
  /// The signed text is `id.timestamp.body`, byte for byte as it is sent.
  /// - Parameter timestampSeconds: the time of the attempt, as in `webhook-timestamp`.
  package static func header(
    id: String, timestampSeconds: Int64, body: [UInt8], secrets: [SigningSecret]
  ) -> String {
    var signed = Array("\(id).\(timestampSeconds).".utf8)
    signed.append(contentsOf: body)
    return secrets.compactMap { sign(signed, $0) }.joined(separator: " ")
  }

  private static func sign(_ bytes: [UInt8], _ secret: SigningSecret) -> String? {
    switch secret.scheme {
    case .v1:
      let code = HMAC<SHA256>.authenticationCode(
        for: bytes, using: SymmetricKey(data: secret.bytes))
      return "v1," + Base64.encode(Array(code))
    case .v1a:
      // This fails only for keys of other lengths, and `SigningSecret` refuses those.
      guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: secret.bytes),
        let signature = try? key.signature(for: bytes)
      else { return nil }
      return "v1a," + Base64.encode(Array(signature))
    }
  }
}
