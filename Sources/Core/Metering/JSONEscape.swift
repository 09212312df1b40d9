/// Writes the escapes of characters that cannot stand for themselves in a JSON string (RFC 8259,
/// section 7).
package enum JSONEscape {
  /// The length of the longest escape that `write` makes, such as `\u001f`.
  package static let longest = 6

  /// Whether a byte of UTF-8 needs an escape.
  @inlinable
  package static func isNeeded(_ byte: UInt8) -> Bool {
    byte < 0x20 || byte == 0x22 || byte == 0x5C
  }

  /// Writes `\"`, `\\` or `\u001f`.
  ///
  /// - Returns: the number of bytes, at most `longest`.
  /// - Precondition: `isNeeded(byte)`.
  package static func write(_ byte: UInt8, to out: UnsafeMutablePointer<UInt8>) -> Int {
    out[0] = UInt8(ascii: "\\")
    guard byte < 0x20 else {
      out[1] = byte
      return 2
    }
    out[1] = UInt8(ascii: "u")
    out[2] = UInt8(ascii: "0")
    out[3] = UInt8(ascii: "0")
    out[4] = Hexadecimal.digit(byte >> 4)
    out[5] = Hexadecimal.digit(byte & 15)
    return longest
  }

  /// Appends a text of UTF-8 with its escapes and without quotes.
  package static func append(_ text: UnsafeBufferPointer<UInt8>, to output: inout [UInt8]) {
    var start = 0
    for i in text.indices where isNeeded(text[i]) {
      output.append(contentsOf: text[start..<i])
      start = i + 1
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: longest) { spelling in
        guard let base = spelling.baseAddress else { return }
        output.append(contentsOf: spelling[..<write(text[i], to: base)])
      }
    }
    output.append(contentsOf: text[start...])
  }

  /// Appends the escape of any character, such as `\n`, `\"` or `\u202e`. A character that takes
  /// two units in UTF-16 gets two escapes of the last kind.
  package static func append(_ scalar: Unicode.Scalar, to output: inout String) {
    switch scalar {
    case "\"": output += "\\\""
    case "\\": output += "\\\\"
    case "\n": output += "\\n"
    case "\r": output += "\\r"
    case "\t": output += "\\t"
    default:
      for unit in String(scalar).utf16 {
        output += "\\u" + Hexadecimal.text([UInt8(unit >> 8), UInt8(unit & 0xFF)])
      }
    }
  }
}
