/// Why some bytes are not one JSON text.
package struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  package enum Reason: String, Sendable {
    case malformedUTF8 = "not UTF-8"
    case unexpectedEnd = "ends too early"
    case unexpectedByte = "a byte that cannot stand here"
    case controlCharacter = "a control character in a string"
    case badEscape = "no such escape"
    case tooDeep = "nested too deep"
    case trailingBytes = "more behind the value"
    case tooManyValues = "more values than are read"
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
