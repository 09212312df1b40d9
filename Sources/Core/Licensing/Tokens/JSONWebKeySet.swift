import JSONText

/// Several keys in the order of the file. The first private key of a purpose signs. All keys
/// verify, so that signatures of older keys stay valid.
public struct JSONWebKeySet: Sendable {
  /// The keys, in the order of the file.
  public private(set) var keys: [JSONWebKey]

  /// The largest number of keys in a set. More keys would be a mistake.
  public static let maximumKeys = 100

  /// An empty set.
  public init() { keys = [] }

  /// A key that was left out.
  public struct Skipped: Sendable, Equatable, CustomStringConvertible {
    /// Its number in the set, from 1.
    public let number: Int
    /// The member that is unknown here, without its value.
    public let reason: String

    /// The number and the reason in one clause.
    public var description: String { "key \(number): \(reason)" }
  }

  /// The keys that were left out when the set was read. They are not in `publicJSON` and
  /// `privateJSON`.
  public private(set) var skipped: [Skipped] = []

  /// Reads `{"keys":[…]}` as in RFC 7517. Keys of unknown kinds, curves, uses and algorithms are
  /// left out, as its section 5 asks, and so is a key that occurs twice (see `skipped`).
  ///
  /// - Throws: `JSONWebKey.Invalid` with the number of the key, from 1. A malformed key of a known
  ///   kind is refused rather than left out, because otherwise nobody would notice in time that it
  ///   does not verify.
  public init(json: some Sequence<UInt8>) throws(JSONWebKey.Invalid) {
    let bytes = Array(json.prefix(1_048_577))
    guard bytes.count <= 1_048_576 else { throw JSONWebKey.Invalid("the set has more than 1 MiB") }
    guard let members = (try? JSONReader.parse(bytes))?.members,
      let elements = members["keys"]?.elements, members.repeatedName == nil
    else { throw JSONWebKey.Invalid("it is not a JSON Web Key Set such as {\"keys\":[…]}") }
    guard elements.count <= Self.maximumKeys else {
      throw JSONWebKey.Invalid("the set has more than \(Self.maximumKeys) keys")
    }
    keys = []
    for (i, element) in elements.enumerated() {
      guard let members = element.members else {
        throw JSONWebKey.Invalid("key \(i + 1) is not an object")
      }
      if let reason = JSONWebKey.reasonToSkip(members) {
        skipped.append(Skipped(number: i + 1, reason: reason))
        continue
      }
      do throws(JSONWebKey.Invalid) {
        let key = try JSONWebKey(members)
        if keys.contains(where: { $0.isMistakable(for: key) && $0.hasSameMaterial(as: key) }) {
          skipped.append(Skipped(number: i + 1, reason: "it repeats an earlier key"))
        } else {
          try add(key)
        }
      } catch {
        throw JSONWebKey.Invalid("key \(i + 1): \(error)")
      }
    }
  }

  /// Adds a key after the others. Keys may share an id if their algorithms or purposes differ.
  ///
  /// - Throws: `Invalid` if a token could mean either of two keys.
  public mutating func add(_ key: JSONWebKey) throws(JSONWebKey.Invalid) {
    try check(key)
    keys.append(key)
  }

  private func check(_ key: JSONWebKey) throws(JSONWebKey.Invalid) {
    guard !keys.contains(where: { $0.isMistakable(for: key) }) else {
      throw JSONWebKey.Invalid("a kid occurs twice")
    }
  }

  /// Adds a key before the others, so that it signs from now on.
  ///
  /// - Throws: as `add(_:)` does.
  public mutating func rotate(to key: JSONWebKey) throws(JSONWebKey.Invalid) {
    try check(key)
    keys.insert(key, at: 0)
  }

  /// The first key with that id.
  public subscript(keyID: String) -> JSONWebKey? { keys.first { $0.hasID(keyID) } }

  /// The key that signs, if there is one.
  public func signingKey(for purpose: JSONWebKey.Purpose) -> JSONWebKey? {
    keys.first { $0.isPrivate && $0.purpose == purpose }
  }

  /// The document that `/.well-known/jwks.json` answers.
  public var publicJSON: [UInt8] { json(withSecrets: false) }

  /// The document with the private keys, which is a secret.
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
