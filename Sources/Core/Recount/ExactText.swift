/// A text whose equality, hash and order are those of its UTF-8 bytes.
///
/// Swift's `String` compares by canonical equivalence: "é" as one scalar equals "é" as two. The
/// log and PostgreSQL compare bytes, so a `String` key would merge two licenses, two producers or
/// two event ids that differ everywhere else. No dictionary of this module has `String` keys.
package struct ExactText: Hashable, Comparable, Sendable {
  package let string: String

  package init(_ string: String) {
    self.string = string
  }

  package static func == (left: ExactText, right: ExactText) -> Bool {
    left.string.utf8.elementsEqual(right.string.utf8)
  }

  package func hash(into hasher: inout Hasher) {
    for byte in string.utf8 {
      hasher.combine(byte)
    }
    // The length parts ("ab", "c") from ("a", "bc") where several texts are hashed in a row.
    hasher.combine(string.utf8.count)
  }

  /// The order of PostgreSQL's collation "C".
  package static func < (left: ExactText, right: ExactText) -> Bool {
    left.string.utf8.lexicographicallyPrecedes(right.string.utf8)
  }
}

extension ExactText: ExpressibleByStringLiteral, CustomStringConvertible {
  package init(stringLiteral value: String) {
    self.init(value)
  }

  package var description: String { string }
}
