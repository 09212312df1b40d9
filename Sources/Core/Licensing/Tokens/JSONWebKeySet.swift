import JSONText

/// Several keys, in the order of the file. The first private key of a purpose signs; all verify, so that what an older key signed holds on.
public struct JSONWebKeySet: Sendable {
  /// In the order of the file.
  public private(set) var keys: [JSONWebKey]

  /// More would be a mistake, and each is tried by its id alone.
  public static let maximumKeys = 100

  /// An empty set.
  public init() { keys = [] }

  /// Reads `{"keys":[…]}` by RFC 7517.
  ///
  /// - Throws: `JSONWebKey.Invalid`, with the number of the key, from 1. A key that is of no kind known here is refused rather than left
  ///   out: a set that verifies less than was meant is found out too late.
  public init(json: some Sequence<UInt8>) throws(JSONWebKey.Invalid) {
    let bytes = Array(json.prefix(1_048_577))
    guard bytes.count <= 1_048_576 else { throw JSONWebKey.Invalid("more than 1 MiB") }
    guard let members = (try? JSONReader.parse(bytes))?.members,
      let elements = members["keys"]?.elements, members.repeatedName == nil
    else { throw JSONWebKey.Invalid("not a JSON Web Key Set: {\"keys\":[…]}") }
    guard elements.count <= Self.maximumKeys else {
      throw JSONWebKey.Invalid("more than \(Self.maximumKeys) keys")
    }
    keys = []
    for (i, element) in elements.enumerated() {
      guard let members = element.members else {
        throw JSONWebKey.Invalid("key \(i + 1): not an object")
      }
      do throws(JSONWebKey.Invalid) {
        try add(JSONWebKey(members))
      } catch {
        throw JSONWebKey.Invalid("key \(i + 1): \(error)")
      }
    }
  }

  /// Behind the others.
  /// - Throws: where the id is taken: a token could mean either.
  public mutating func add(_ key: JSONWebKey) throws(JSONWebKey.Invalid) {
    guard self[key.keyID] == nil else { throw JSONWebKey.Invalid("kid stands twice") }
    keys.append(key)
  }

  /// Before the others, so that it signs from now on.
  /// - Throws: as `add(_:)` does.
  public mutating func rotate(to key: JSONWebKey) throws(JSONWebKey.Invalid) {
    guard self[key.keyID] == nil else { throw JSONWebKey.Invalid("kid stands twice") }
    keys.insert(key, at: 0)
  }

  /// The key of that id.
  public subscript(keyID: String) -> JSONWebKey? { keys.first { $0.keyID == keyID } }

  /// The key that signs, if there is one.
  public func signingKey(for purpose: JSONWebKey.Purpose) -> JSONWebKey? {
    keys.first { $0.isPrivate && $0.purpose == purpose }
  }

  /// What `/.well-known/jwks.json` answers.
  public var publicJSON: [UInt8] { json(withSecrets: false) }

  /// With the private keys: a secret.
  public var privateJSON: [UInt8] { json(withSecrets: true) }

  private func json(withSecrets: Bool) -> [UInt8] {
    var json = JSONWriter()
    json.beginObject()
    json.name("keys")
    json.beginArray()
    for key in keys { key.write(to: &json, withSecrets: withSecrets) }
    json.endArray()
    json.endObject()
    return json.bytes
  }
}
