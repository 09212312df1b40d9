import Crypto

/// Encrypts endpoints' secrets at rest with AES-256-GCM under `METER_ENCRYPTION_KEY`. The
/// endpoint's id is associated data, so that a ciphertext cannot be opened from another endpoint's
/// row.
///
/// While the key is being changed, the variable contains several keys. The first key seals, and
/// every key opens. `meterctl key reseal` seals the stored secrets with the first key.
///
/// The format is one byte with the value 1, the nonce (12 bytes), the ciphertext, and the tag (16
/// bytes).
package struct SecretBox: Sendable {
  package struct Invalid: Error, Sendable, CustomStringConvertible {
    package let description: String
  }

  package static let nonceBytes = 12
  /// Each key is another attempt to open a secret. A change of the key needs two keys.
  package static let maximumKeys = 8
  private static let format: UInt8 = 1
  private let keys: [SymmetricKey]

  /// - Parameter base64Key: a key of 32 bytes in base64, or several such keys, separated by commas.
  package init(base64Key: String) throws(Invalid) {
    var keys: [SymmetricKey] = []
    for text in base64Key.split(separator: ",", omittingEmptySubsequences: false) {
      guard let bytes = Base64.decode(text.filter { $0 != " " }), bytes.count == 32 else {
        throw Invalid(
          description:
            "METER_ENCRYPTION_KEY must be 32 bytes in base64, or several such keys separated by commas"
        )
      }
      keys.append(SymmetricKey(data: bytes))
    }
    guard keys.count <= Self.maximumKeys else {
      throw Invalid(description: "METER_ENCRYPTION_KEY holds more than \(Self.maximumKeys) keys")
    }
    self.keys = keys
  }

  package var keyCount: Int { keys.count }

  /// - Parameter nonce: 12 bytes that are never used twice. Random nonces are safe for 2^32
  ///   secrets.
  package func seal(
    _ secret: SigningSecret, endpoint: String, nonce: [UInt8]
  ) throws(Invalid) -> [UInt8] {
    do {
      let box = try AES.GCM.seal(
        Array(secret.text.utf8), using: keys[0], nonce: AES.GCM.Nonce(data: nonce),
        authenticating: Array(endpoint.utf8))
      return [Self.format] + nonce + Array(box.ciphertext) + Array(box.tag)
    } catch {
      throw Invalid(description: "the secret cannot be encrypted: the nonce has 12 bytes")
    }
  }

  package func open(_ sealed: [UInt8], endpoint: String) throws(Invalid) -> SigningSecret {
    try openFindingKey(sealed, endpoint: endpoint).secret
  }

  /// The secret, and whether the first key opened it.
  package func openFindingKey(
    _ sealed: [UInt8], endpoint: String
  ) throws(Invalid) -> (secret: SigningSecret, isFirstKey: Bool) {
    for (index, key) in keys.enumerated() {
      // A wrong key opens nothing. The next key may be the right one.
      if let secret = try? Self.open(sealed, endpoint: endpoint, key: key) {
        return (secret, index == 0)
      }
    }
    throw Invalid(
      description:
        "the secret cannot be decrypted: METER_ENCRYPTION_KEY is not the one that encrypted it")
  }

  private static func open(
    _ sealed: [UInt8], endpoint: String, key: SymmetricKey
  ) throws -> SigningSecret {
    struct TooShort: Error {}
    guard sealed.first == format, sealed.count > 1 + nonceBytes + 16 else { throw TooShort() }
    let box = try AES.GCM.SealedBox(combined: Array(sealed.dropFirst()))
    let text = try AES.GCM.open(box, using: key, authenticating: Array(endpoint.utf8))
    return try SigningSecret(text: String(decoding: Array(text), as: UTF8.self))
  }
}
