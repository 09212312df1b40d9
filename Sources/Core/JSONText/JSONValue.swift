/// A JSON text as it was written. Members keep their order and their repetitions, and numbers are
/// texts.
package indirect enum JSONValue: Equatable, Sendable {
  case object([JSONMember])
  case array([JSONValue])
  case string(JSONString)
  /// The number's own characters, such as `-0`, `1.0` or `1e2`.
  case number(String)
  case bool(Bool)
  case null
}

/// A name and its value in an object.
package struct JSONMember: Equatable, Sendable {
  package var name: JSONString
  package var value: JSONValue

  package init(name: JSONString, value: JSONValue) {
    self.name = name
    self.value = value
  }
}

/// A string with its escapes resolved.
package struct JSONString: Equatable, Sendable {
  /// The string as UTF-8. A lone surrogate is stored as the three bytes that UTF-8 would use for it
  /// (ED A0 80 to ED BF BF), so that different strings stay different.
  package var bytes: [UInt8]
  /// Whether an escape is a surrogate without its other half.
  package var hasLoneSurrogate: Bool

  package init(bytes: [UInt8], hasLoneSurrogate: Bool = false) {
    self.bytes = bytes
    self.hasLoneSurrogate = hasLoneSurrogate
  }

  package func equals(_ text: String) -> Bool {
    bytes.elementsEqual(text.utf8)
  }
}

extension [JSONMember] {
  /// The value of a name. If the name occurs more than once, the last value counts. Nil if there is
  /// no such member.
  package subscript(name: String) -> JSONValue? {
    last { $0.name.equals(name) }?.value
  }
}

extension JSONValue {
  /// The members, if this is an object.
  package var members: [JSONMember]? {
    if case .object(let members) = self { members } else { nil }
  }

  package var elements: [JSONValue]? {
    if case .array(let elements) = self { elements } else { nil }
  }

  /// The text, if this is a string without lone surrogates.
  package var text: String? {
    guard case .string(let string) = self, !string.hasLoneSurrogate else { return nil }
    return String(decoding: string.bytes, as: UTF8.self)
  }

  /// The value, if this is a number that is written as an integer of 64 bits. `1.0` and `1e2` are
  /// not.
  package var integer: Int64? {
    if case .number(let digits) = self { Int64(digits) } else { nil }
  }

  /// The value, if this is a number in any spelling. `5e4`, `50000.0` and `50000` are equal.
  package var number: DecimalNumber? {
    if case .number(let digits) = self { DecimalNumber(digits) } else { nil }
  }

  package var boolean: Bool? {
    if case .bool(let value) = self { value } else { nil }
  }
}

extension [JSONMember] {
  /// A name that occurs more than once, if there is one. Two readers could choose different values
  /// for it.
  package var repeatedName: String? {
    if count <= 16 {
      // A few names are compared faster than they are hashed.
      for i in indices where self[..<i].contains(where: { $0.name.bytes == self[i].name.bytes }) {
        return String(decoding: self[i].name.bytes, as: UTF8.self)
      }
      return nil
    }
    var seen: Set<[UInt8]> = []
    for member in self where !seen.insert(member.name.bytes).inserted {
      return String(decoding: member.name.bytes, as: UTF8.self)
    }
    return nil
  }
}
