import Crypto

/// Encrypts endpoints' secrets at rest: AES-256-GCM under `METER_ENCRYPTION_KEY`, the endpoint's id as associated data, so that a
/// ciphertext copied to another endpoint's row opens nothing.
///
/// Format: one byte, 1, then nonce (12), ciphertext, tag (16).
package struct SecretBox: Sendable {
  package struct Invalid: Error, Sendable, CustomStringConvertible {
    package let description: String
  }

  package static let nonceBytes = 12
  private static let format: UInt8 = 1
  private let key: SymmetricKey

  /// - Parameter base64Key: 32 bytes, base64.
  package init(base64Key: String) throws(Invalid) {
    guard let bytes = Base64.decode(base64Key), bytes.count == 32 else {
      throw Invalid(description: "METER_ENCRYPTION_KEY must be 32 bytes in base64")
    }
    key = SymmetricKey(data: bytes)
  }

  /// - Parameter nonce: 12 bytes, never the same twice: random ones are safe for 2^32 secrets.
  package func seal(
    _ secret: SigningSecret, endpoint: String, nonce: [UInt8]
  ) throws(Invalid) -> [UInt8] {
    do {
      let box = try AES.GCM.seal(
        Array(secret.text.utf8), using: key, nonce: AES.GCM.Nonce(data: nonce),
        authenticating: Array(endpoint.utf8))
      return [Self.format] + nonce + Array(box.ciphertext) + Array(box.tag)
    } catch {
      throw Invalid(description: "the secret cannot be encrypted: the nonce has 12 bytes")
    }
  }

  package func open(_ sealed: [UInt8], endpoint: String) throws(Invalid) -> SigningSecret {
    let wrong = Invalid(
      description:
        "the secret cannot be decrypted: METER_ENCRYPTION_KEY is not the one that encrypted it"
    )
    guard sealed.first == Self.format, sealed.count > 1 + Self.nonceBytes + 16 else { throw wrong }
    do {
      let box = try AES.GCM.SealedBox(combined: Array(sealed.dropFirst()))
      let text = try AES.GCM.open(box, using: key, authenticating: Array(endpoint.utf8))
      return try SigningSecret(text: String(decoding: Array(text), as: UTF8.self))
    } catch {
      throw wrong
    }
  }
}
