import Crypto
import CryptoExtras
import FoundationEssentials
import JSONText

/// A key of a set as in RFC 7517. It is `OKP` with Ed25519, `EC` with P-256, or `RSA`, which can
/// only verify.
///
/// The algorithm belongs to the key and not to the token. A token whose header names another
/// algorithm is refused.
public struct JSONWebKey: Sendable {
  /// The purpose of a key, from the member `purpose`. A key for verdicts, which is on line, cannot
  /// make licenses.
  public enum Purpose: String, Sendable, CaseIterable {
    case license
    case verdict
  }

  /// Why a key is refused. It names members but never their values.
  public struct Invalid: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence.
    public let description: String
    init(_ description: String) { self.description = description }
  }

  /// The name of the key in headers. If the set gives none, it is the thumbprint of RFC 7638.
  public let keyID: String
  /// A key without a purpose in its set is for licenses.
  public let purpose: Purpose
  /// The algorithm that fits the key.
  public var algorithm: SigningAlgorithm {
    switch verification {
    case .ed25519: .edDSA
    case .p256: .es256
    case .rsa: .rs256
    }
  }
  /// Whether the key can sign. Such a key is a secret.
  public var isPrivate: Bool { signing != nil }

  let verification: Verification
  private let signing: Signing?

  enum Verification: Sendable {
    case ed25519(Curve25519.Signing.PublicKey)
    case p256(P256.Signing.PublicKey)
    /// An RSA key with its modulus and exponent, because the library does not return them.
    case rsa(_RSA.Signing.PublicKey, n: [UInt8], e: [UInt8])
  }

  private enum Signing: Sendable {
    case ed25519(Curve25519.Signing.PrivateKey)
    case p256(P256.Signing.PrivateKey)
  }

  /// Makes a new private key from the system's randomness. Its id is its thumbprint.
  ///
  /// - Parameter algorithm: `edDSA` or `es256`. For `rs256` the result is nil, because RSA keys can
  ///   only verify.
  public static func generate(_ algorithm: SigningAlgorithm, for purpose: Purpose) -> JSONWebKey? {
    switch algorithm {
    case .edDSA:
      let key = Curve25519.Signing.PrivateKey()
      return JSONWebKey(.ed25519(key.publicKey), .ed25519(key), keyID: nil, purpose)
    case .es256:
      let key = P256.Signing.PrivateKey()
      return JSONWebKey(.p256(key.publicKey), .p256(key), keyID: nil, purpose)
    case .rs256: return nil
    }
  }

  private init(
    _ verification: Verification, _ signing: Signing?, keyID: String?, _ purpose: Purpose
  ) {
    self.verification = verification
    self.signing = signing
    self.purpose = purpose
    self.keyID = keyID ?? Self.thumbprint(verification)
  }

  /// Compares bytes, because two spellings of one text are two ids.
  func hasID(_ id: String) -> Bool { keyID.utf8.elementsEqual(id.utf8) }

  /// Whether a token could mean either of the two.
  func isMistakable(for other: JSONWebKey) -> Bool {
    hasID(other.keyID) && purpose == other.purpose && algorithm == other.algorithm
  }

  func hasSameMaterial(as other: JSONWebKey) -> Bool {
    Self.thumbprint(verification) == Self.thumbprint(other.verification)
      && isPrivate == other.isPrivate
  }

  /// The key without its secret part.
  public var publicKey: JSONWebKey { JSONWebKey(verification, nil, keyID: keyID, purpose) }

  // MARK: Signatures

  func isValid(signature: [UInt8], for input: ArraySlice<UInt8>) -> Bool {
    switch verification {
    case .ed25519(let key):
      return signature.count == 64 && key.isValidSignature(signature, for: input)
    case .p256(let key):
      // A malformed signature is not valid, whatever the reason.
      guard signature.count == 64,
        let parsed = try? P256.Signing.ECDSASignature(rawRepresentation: signature)
      else { return false }
      return key.isValidSignature(parsed, for: input)
    case .rsa(let key, let n, _):
      guard signature.count == n.count else { return false }
      return key.isValidSignature(
        _RSA.Signing.RSASignature(rawRepresentation: signature), for: SHA256.hash(data: input),
        padding: .insecurePKCS1v1_5)
    }
  }

  /// Returns nil if it is not a private key, or if the system has no randomness, which is the only
  /// error of signing.
  func signature(for input: [UInt8]) -> [UInt8]? {
    switch signing {
    case .ed25519(let key): (try? key.signature(for: input)).map { [UInt8]($0) }
    case .p256(let key): (try? key.signature(for: input)).map { [UInt8]($0.rawRepresentation) }
    case nil: nil
    }
  }

  // MARK: JSON

  /// Why a valid key of a set cannot be used here. Nil if it can be used, or if it is malformed.
  static func reasonToSkip(_ members: [JSONMember]) -> String? {
    guard let type = members["kty"]?.text else { return nil }
    let curve = members["crv"]?.text
    switch type {
    case "OKP" where curve != nil && curve != "Ed25519": return "its crv is not Ed25519"
    case "EC" where curve != nil && curve != "P-256": return "its crv is not P-256"
    case "OKP", "EC", "RSA": break
    default: return "its kty is not OKP, EC or RSA"
    }
    if let use = members["use"]?.text, use != "sig" { return "its use is not sig" }
    if let operations = members["key_ops"]?.elements,
      !operations.contains(where: { ["verify", "sign"].contains($0.text) })
    {
      return "its key_ops contain neither sign nor verify"
    }
    if let name = members["alg"]?.text, SigningAlgorithm(name: name) == nil {
      return "its alg is not EdDSA, Ed25519, ES256 or RS256"
    }
    if let purpose = members["purpose"]?.text, Purpose(rawValue: purpose) == nil {
      return "its purpose is neither license nor verdict"
    }
    return nil
  }

  init(_ members: [JSONMember]) throws(Invalid) {
    if let name = members.repeatedName { throw Invalid("\(name) occurs twice") }
    if let use = members["use"], use.text != "sig" { throw Invalid("use must be sig") }
    if let value = members["key_ops"], value.elements?.allSatisfy({ $0.text != nil }) != true {
      throw Invalid("key_ops must be an array of strings")
    }
    let purpose: Purpose
    if let value = members["purpose"] {
      guard let known = value.text.flatMap(Purpose.init(rawValue:)) else {
        throw Invalid("purpose must be license or verdict")
      }
      purpose = known
    } else {
      purpose = .license
    }
    var keyID: String?
    if let value = members["kid"] {
      guard let text = value.text, (1...256).contains(text.utf8.count) else {
        throw Invalid("kid must be a string of 1 to 256 bytes")
      }
      keyID = text
    }
    let (verification, signing) = try Self.material(members)
    self.init(verification, signing, keyID: keyID, purpose)
    if let value = members["alg"], value.text.flatMap(SigningAlgorithm.init(name:)) != algorithm {
      throw Invalid("alg must be \(algorithm.rawValue) for this key")
    }
  }

  private static func material(
    _ members: [JSONMember]
  ) throws(Invalid) -> (Verification, Signing?) {
    // The library's errors only say that a key is invalid. Ours also name the member.
    switch (members["kty"]?.text, members["crv"]?.text) {
    case ("OKP", "Ed25519"):
      let x = try bytes("x", members, 32)
      guard members["d"] != nil else {
        guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: x) else {
          throw Invalid("x is not an Ed25519 key")
        }
        return (.ed25519(key), nil)
      }
      guard
        let key = try? Curve25519.Signing.PrivateKey(
          rawRepresentation: try bytes("d", members, 32)),
        [UInt8](key.publicKey.rawRepresentation) == x
      else { throw Invalid("d and x do not belong together") }
      return (.ed25519(key.publicKey), .ed25519(key))
    case ("EC", "P-256"):
      let point = try bytes("x", members, 32) + bytes("y", members, 32)
      guard let key = try? P256.Signing.PublicKey(rawRepresentation: point) else {
        throw Invalid("x and y are not a point of P-256")
      }
      guard members["d"] != nil else { return (.p256(key), nil) }
      guard
        let own = try? P256.Signing.PrivateKey(rawRepresentation: try bytes("d", members, 32)),
        [UInt8](own.publicKey.rawRepresentation) == point
      else { throw Invalid("d, x and y do not belong together") }
      return (.p256(key), .p256(own))
    case ("RSA", _):
      guard members["d"] == nil else { throw Invalid("an RSA key must be a public key, without d") }
      let n = try bytes("n", members, nil)
      let e = try bytes("e", members, nil)
      // Verifying with 16,384 bits is slow enough to be an attack.
      guard n.first != 0, (256...1_024).contains(n.count), (1...8).contains(e.count),
        let key = try? _RSA.Signing.PublicKey(n: n, e: e), key.keySizeInBits >= 2_048
      else { throw Invalid("n and e are not an RSA key of 2,048 to 8,192 bits") }
      return (.rsa(key, n: n, e: e), nil)
    default:
      throw Invalid("kty and crv must be OKP with Ed25519, EC with P-256, or RSA")
    }
  }

  private static func bytes(
    _ name: String, _ members: [JSONMember], _ count: Int?
  ) throws(Invalid) -> [UInt8] {
    guard let text = members[name]?.text, text.utf8.count <= 2_048,
      let bytes = Base64URL.decode(Array(text.utf8)), count == nil || bytes.count == count
    else { throw Invalid("\(name) must be base64url\(count.map { " of \($0) bytes" } ?? "")") }
    return bytes
  }

  /// - Parameter withSecrets: whether to write `d` if the key has it.
  func write(to json: inout JSONWriter, withSecrets: Bool) {
    json.beginObject()
    for (name, value) in Self.required(verification) { json.member(name, value) }
    json.member("kid", keyID)
    json.member("alg", algorithm.rawValue)
    json.member("use", "sig")
    json.member("purpose", purpose.rawValue)
    if withSecrets {
      switch signing {
      case .ed25519(let key): json.member("d", Base64URL.encode(key.rawRepresentation))
      case .p256(let key): json.member("d", Base64URL.encode(key.rawRepresentation))
      case nil: break
      }
    }
    json.endObject()
  }

  /// The members that RFC 7638 hashes, in their order.
  private static func required(_ verification: Verification) -> [(String, String)] {
    switch verification {
    case .ed25519(let key):
      return [
        ("crv", "Ed25519"), ("kty", "OKP"), ("x", Base64URL.encode(key.rawRepresentation)),
      ]
    case .p256(let key):
      let point = [UInt8](key.rawRepresentation)
      return [
        ("crv", "P-256"), ("kty", "EC"), ("x", Base64URL.encode(point[..<32])),
        ("y", Base64URL.encode(point[32...])),
      ]
    case .rsa(_, let n, let e):
      return [("e", Base64URL.encode(e)), ("kty", "RSA"), ("n", Base64URL.encode(n))]
    }
  }

  private static func thumbprint(_ verification: Verification) -> String {
    var json = JSONWriter()
    json.beginObject()
    for (name, value) in required(verification) { json.member(name, value) }
    json.endObject()
    return Base64URL.encode(Array(SHA256.hash(data: json.bytes)))
  }
}
