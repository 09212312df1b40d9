package import JSONText
import Licensing
package import Metering

/// Reads bodies of requests.
extension Administrator {
  /// The members of an object, which may contain only `known` members, each once.
  ///
  /// - Throws: `AdministrationRefusal` with `bad_request`.
  package static func members(
    _ body: JSONValue, _ known: Set<Identifier>
  ) throws -> [JSONMember] {
    guard case .object(let members) = body else {
      throw AdministrationRefusal.invalid("", "the body must be a JSON object")
    }
    if let name = members.repeatedName {
      throw AdministrationRefusal.invalid(String(name.prefix(100)), "must be given once")
    }
    for member in members {
      let name = String(decoding: member.name.bytes, as: UTF8.self)
      guard known.contains(Identifier(name)) else {
        throw AdministrationRefusal.invalid(
          String(name.prefix(100)), "is unknown here. Is it misspelled?")
      }
    }
    return members
  }

  /// A text without control characters. Nil if it is absent or null.
  package static func text(
    _ members: [JSONMember], _ name: String, bytes: Int
  ) throws -> String? {
    try read(members, name) { try $0.text(name, maximumBytes: bytes) }
  }

  /// The same for a text that a person reads, such as a name. It must not be blank.
  static func prose(_ members: [JSONMember], _ name: String, bytes: Int) throws -> String? {
    let text = try text(members, name, bytes: bytes)
    if text?.isBlank == true { throw AdministrationRefusal.invalid(name, "must not be blank") }
    return text
  }

  package static func boolean(_ members: [JSONMember], _ name: String) throws -> Bool? {
    try read(members, name) { try $0.boolean(name) }
  }

  package static func texts(
    _ members: [JSONMember], _ name: String, bytes: Int, most: Int
  ) throws -> [String]? {
    try read(members, name) { try $0.texts(name, maximumBytes: bytes, maximumItems: most) }
  }

  package static func choice(
    _ members: [JSONMember], _ name: String, _ known: [String]
  ) throws -> String? {
    try read(members, name) { try $0.choice(name, known) }
  }

  package static func integer(
    _ members: [JSONMember], _ name: String, _ range: ClosedRange<Int64>
  ) throws -> Int64? {
    try read(members, name) { try $0.integer(name, range) }
  }

  /// An RFC 3339 time in milliseconds since 1970.
  package static func milliseconds(_ members: [JSONMember], _ name: String) throws -> Int64? {
    try read(members, name) { try $0.microseconds(name) / 1_000 }
  }

  /// The seconds of a duration such as `15m`, `12h` or `90d`.
  package static func lifetime(
    _ members: [JSONMember], _ name: String, _ range: ClosedRange<Int64>, _ says: String
  ) throws -> Int64? {
    guard let text = try text(members, name, bytes: 16) else { return nil }
    guard let seconds = Lifetime.seconds(text), range.contains(seconds) else {
      throw AdministrationRefusal.invalid(name, says)
    }
    return seconds
  }

  private static func read<T>(
    _ members: [JSONMember], _ name: String, _ body: (MemberReader) throws -> T
  ) throws -> T? {
    let reader = MemberReader(members)
    guard reader.has(name) else { return nil }
    do {
      return try body(reader)
    } catch let invalid as LicenseLine.Invalid {
      throw AdministrationRefusal(invalid)
    }
  }
}

extension JSONWriter {
  package mutating func member(_ name: String, optional value: String?) {
    self.name(name)
    if let value { text(value) } else { null() }
  }
}
