/// The identifier of a license, customer, producer, import batch, event, source, meter or domain.
///
/// Two identifiers are the same if, and only if, their UTF-8 bytes are the same. They are hashed
/// and ordered by these bytes as well. Swift's `String` compares by canonical equivalence instead:
/// `LIC-K1` with the Kelvin sign U+212A equals `LIC-K1` with the letter K, and `é` as one scalar
/// equals `é` as two. The log and PostgreSQL compare bytes, so a `String` as a key would merge
/// two licenses that are different everywhere else.
///
/// An identifier cannot be compared with a `String`. A literal in its place is an identifier.
public struct Identifier: Sendable {
  /// The text, for encoders, SQL parameters and people. Do not compare it with other texts.
  public let string: String

  /// Takes the text as it is. O(1).
  public init(_ string: String) { self.string = string }

  /// The bytes that decide.
  public var utf8: String.UTF8View { string.utf8 }

  /// Whether the text holds U+0000, which PostgreSQL cannot store. O(bytes).
  public var containsNUL: Bool { string.utf8.contains(0) }
}

extension Identifier: Hashable, Comparable {
  /// Compares the bytes. O(bytes).
  public static func == (left: Identifier, right: Identifier) -> Bool {
    left.utf8.count == right.utf8.count && left.utf8.elementsEqual(right.utf8)
  }

  /// The order of the bytes, which is that of PostgreSQL's collation "C".
  public static func < (left: Identifier, right: Identifier) -> Bool {
    left.utf8.lexicographicallyPrecedes(right.utf8)
  }

  /// Hashes the bytes. O(bytes).
  public func hash(into hasher: inout Hasher) {
    let done: Void? = string.utf8.withContiguousStorageIfAvailable {
      hasher.combine(bytes: UnsafeRawBufferPointer($0))
    }
    if done == nil { for byte in string.utf8 { hasher.combine(byte) } }
    // No text in UTF-8 holds this byte, so ("ab", "c") and ("a", "bc") are hashed differently.
    hasher.combine(0xFF as UInt8)
  }
}

extension Identifier: ExpressibleByStringInterpolation, CustomStringConvertible {
  /// A literal is an identifier where one is expected.
  public init(stringLiteral value: String) { self.init(value) }

  /// The text.
  public var description: String { string }
}
