import JSONText

/// Splits a compact JWS (RFC 7515) and verifies its signature. The payload is not parsed.
struct CompactJWS {
  static let maximumBytes = 8_192

  /// The members of a header that are read. Members that contain or locate keys (`jwk`, `jku`,
  /// `x5u`, `x5c`) are ignored.
  private struct Header {
    var algorithm: SigningAlgorithm
    var keyID: String?
    var type: String?
  }

  /// - Parameter types: the allowed values of `typ`, in lower case and without `application/`. Nil
  ///   stands for an absent one.
  /// - Returns: the payload.
  static func verify(
    _ token: String, keys: [JSONWebKey], types: [String?]
  ) throws(TokenRefusal) -> [UInt8] {
    guard token.utf8.count <= maximumBytes else { throw .tooLarge }
    let bytes = Array(token.utf8)
    let parts = bytes.split(
      separator: UInt8(ascii: "."), maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 3, let headerBytes = Base64URL.decode(parts[0]),
      let payload = Base64URL.decode(parts[1]), let signature = Base64URL.decode(parts[2])
    else { throw .notCompact }
    let header = try read(headerBytes)
    guard types.contains(header.type) else { throw .wrongType }
    let key = try Self.key(header, among: keys)
    guard key.isValid(signature: signature, for: bytes[..<parts[1].endIndex]) else {
      throw .badSignature
    }
    return payload
  }

  /// The only key that the header can mean. Keys may share an id if their algorithms differ (RFC
  /// 7517, section 4.5). If the header has no id, only one key may have the algorithm.
  private static func key(
    _ header: Header, among keys: [JSONWebKey]
  ) throws(TokenRefusal) -> JSONWebKey {
    let named = header.keyID.map { id in keys.filter { $0.hasID(id) } } ?? keys
    guard !named.isEmpty else { throw .unknownKey }
    let fitting = named.filter { $0.algorithm == header.algorithm }
    guard let key = fitting.first else { throw .algorithmMismatch }
    guard fitting.count == 1 else { throw .unknownKey }
    return key
  }

  private static func read(_ bytes: [UInt8]) throws(TokenRefusal) -> Header {
    // The kind of error does not matter, because the text is not a header.
    guard let members = (try? JSONReader.parse(bytes))?.members, members.repeatedName == nil,
      let algorithm = members["alg"]?.text
    else { throw .badHeader }
    guard let known = SigningAlgorithm(name: algorithm) else { throw .unsupportedAlgorithm }
    // `b64` is an extension too (RFC 7797), which must be listed as critical.
    guard members["crit"] == nil, members["b64"] == nil else { throw .critical }
    var header = Header(algorithm: known)
    if let value = members["kid"] {
      guard let id = value.text, id.utf8.count <= 256 else { throw .badHeader }
      header.keyID = id
    }
    if let value = members["typ"] {
      guard let type = value.text?.lowercased() else { throw .badHeader }
      header.type = type.hasPrefix("application/") ? String(type.dropFirst(12)) : type
    }
    return header
  }

  /// Signs many payloads under one header, which is encoded once.
  struct Signer: Sendable {
    private let key: JSONWebKey
    private let prefix: [UInt8]

    /// Returns nil if the key cannot sign.
    init?(key: JSONWebKey, type: String) {
      guard key.isPrivate else { return nil }
      self.key = key
      var json = JSONWriter()
      json.beginObject()
      json.member("alg", key.algorithm.rawValue)
      json.member("kid", key.keyID)
      json.member("typ", type)
      json.endObject()
      var prefix: [UInt8] = []
      Base64URL.append(json.bytes, to: &prefix)
      prefix.append(UInt8(ascii: "."))
      self.prefix = prefix
    }

    func sign(_ payload: [UInt8]) -> [UInt8]? {
      var token: [UInt8] = []
      token.reserveCapacity(prefix.count + payload.count * 4 / 3 + 100)
      token += prefix
      Base64URL.append(payload, to: &token)
      guard let signature = key.signature(for: token) else { return nil }
      token.append(UInt8(ascii: "."))
      Base64URL.append(signature, to: &token)
      return token
    }
  }
}
