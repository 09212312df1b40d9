import EventCodec
package import JSONText
package import Metering

/// Reads the members of an object by name and type. Errors name the member.
package struct MemberReader {
  package typealias Invalid = LicenseLine.Invalid
  package let members: [JSONMember]
  /// The prefix of names in errors, such as `limits.`.
  private let parent: String

  package init(_ members: [JSONMember], in parent: String = "") {
    self.members = members
    self.parent = parent
  }

  /// Whether the member is present and not null.
  package func has(_ name: String) -> Bool {
    members[name].map { $0 != .null } ?? false
  }

  package func text(_ name: String, maximumBytes: Int) throws(Invalid) -> String {
    guard let value = members[name] else { throw invalid(name, "is missing") }
    return try text(value, name, maximumBytes)
  }

  private func text(
    _ value: JSONValue, _ name: String, _ maximumBytes: Int
  ) throws(Invalid) -> String {
    guard case .string(let string) = value, !string.hasLoneSurrogate,
      (1...maximumBytes).contains(string.bytes.count),
      string.bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else {
      throw invalid(
        name, "must be a string of 1 to \(maximumBytes) bytes without control characters")
    }
    return String(decoding: string.bytes, as: UTF8.self)
  }

  /// An identifier may hold any text but NUL, which PostgreSQL cannot store.
  package func identifier(_ name: String, maximumBytes: Int) throws(Invalid) -> Identifier {
    guard let value = members[name] else { throw invalid(name, "is missing") }
    guard case .string(let string) = value, !string.hasLoneSurrogate,
      (1...maximumBytes).contains(string.bytes.count), !string.bytes.contains(0)
    else {
      throw invalid(name, "must be a string of 1 to \(maximumBytes) bytes without U+0000")
    }
    return Identifier(String(decoding: string.bytes, as: UTF8.self))
  }

  package func texts(
    _ name: String, maximumBytes: Int, maximumItems: Int = LicenseLine.maximumItems
  ) throws(Invalid) -> [String] {
    var texts: [String] = []
    for value in try array(name, maximumItems) {
      texts.append(try text(value, name, maximumBytes))
    }
    return texts
  }

  private func array(_ name: String, _ maximumItems: Int) throws(Invalid) -> [JSONValue] {
    guard let value = members[name] else { throw invalid(name, "is missing") }
    guard case .array(let items) = value else { throw invalid(name, "must be an array") }
    guard items.count <= maximumItems else {
      throw invalid(name, "must have at most \(maximumItems) items")
    }
    return items
  }

  package func choice(_ name: String, _ known: [String]) throws(Invalid) -> String {
    guard case .string(let string)? = members[name],
      let value = known.first(where: { string.equals($0) })
    else { throw invalid(name, "must be one of \(known.joined(separator: ", "))") }
    return value
  }

  package func boolean(_ name: String) throws(Invalid) -> Bool {
    guard case .bool(let value)? = members[name] else {
      throw invalid(name, "must be true or false")
    }
    return value
  }

  package func integer(_ name: String, _ range: ClosedRange<Int64>) throws(Invalid) -> Int64 {
    // Only digits count. `1.0` and `1e2` are not integers here, as in events.
    guard let value = members[name]?.integer, range.contains(value) else {
      throw invalid(
        name, "must be an integer from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  package func integers(_ name: String, _ range: ClosedRange<Int64>) throws(Invalid) -> [Int64] {
    var integers: [Int64] = []
    for value in try array(name, LicenseLine.maximumItems) {
      guard let value = value.integer, range.contains(value) else {
        throw invalid(
          name, "must hold integers from \(range.lowerBound) to \(range.upperBound)")
      }
      integers.append(value)
    }
    return integers
  }

  /// The microseconds since 1970 of an RFC 3339 time. Smaller digits are dropped.
  package func microseconds(_ name: String) throws(Invalid) -> Int64 {
    guard case .string(let string)? = members[name],
      let milliseconds = string.bytes.withUnsafeBufferPointer({ Timestamp.milliseconds($0) })
    else { throw invalid(name, "must be an RFC 3339 time, such as 2026-11-23T18:40:00Z") }
    var digits = string.bytes.drop { $0 != UInt8(ascii: ".") }.dropFirst(4).prefix(3)
      .prefix { (0x30...0x39).contains($0) }.map { Int64($0 - 0x30) }
    while digits.count < 3 { digits.append(0) }
    return milliseconds * 1_000 + digits[0] * 100 + digits[1] * 10 + digits[2]
  }

  private func invalid(_ name: String, _ detail: String) -> Invalid {
    Invalid(parent + name, detail)
  }
}
