/// Why some bytes are not one JSON text.
package struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  package enum Reason: String, Sendable {
    case malformedUTF8 = "not UTF-8"
    case unexpectedEnd = "the text ends too early"
    case unexpectedByte = "unexpected byte"
    case controlCharacter = "a control character in a string"
    case badEscape = "invalid escape"
    case tooDeep = "nested too deeply"
    case trailingBytes = "more text after the value"
    case tooManyValues = "too many values"
  }

  /// The index of the byte that is wrong. It is the number of bytes if they end too early.
  package var offset: Int
  package var reason: Reason

  package init(offset: Int, reason: Reason) {
    self.offset = offset
    self.reason = reason
  }

  package var description: String { "\(reason.rawValue), at byte \(offset)" }
}
