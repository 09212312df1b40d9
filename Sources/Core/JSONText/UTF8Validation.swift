/// Checks the syntax of UTF-8 as defined in RFC 3629, section 4.
enum UTF8Validation {
  /// The offset of the first byte that begins no well-formed character, or nil if all is UTF-8.
  ///
  /// It deliberately does not use the standard library's own check, because the recount gives a
  /// second opinion.
  static func firstMalformedOffset(in bytes: [UInt8]) -> Int? {
    var offset = 0
    while offset < bytes.count {
      if bytes[offset] < 0x80 {
        offset += 1
        continue
      }
      guard let length = lengthOfCharacter(at: offset, in: bytes) else { return offset }
      offset += length
    }
    return nil
  }

  /// The number of bytes (1 to 4) of the well-formed character at `offset`, or nil if there is
  /// none.
  static func lengthOfCharacter(at offset: Int, in bytes: [UInt8]) -> Int? {
    let first = bytes[offset]
    // This is the table of RFC 3629. The second byte's range excludes overlong forms (E0, F0),
    // surrogates (ED) and code points beyond U+10FFFF (F4).
    let tails: [ClosedRange<UInt8>]
    switch first {
    case 0x00...0x7F: return 1
    case 0xC2...0xDF: tails = [0x80...0xBF]
    case 0xE0: tails = [0xA0...0xBF, 0x80...0xBF]
    case 0xE1...0xEC: tails = [0x80...0xBF, 0x80...0xBF]
    case 0xED: tails = [0x80...0x9F, 0x80...0xBF]
    case 0xEE...0xEF: tails = [0x80...0xBF, 0x80...0xBF]
    case 0xF0: tails = [0x90...0xBF, 0x80...0xBF, 0x80...0xBF]
    case 0xF1...0xF3: tails = [0x80...0xBF, 0x80...0xBF, 0x80...0xBF]
    case 0xF4: tails = [0x80...0x8F, 0x80...0xBF, 0x80...0xBF]
    default: return nil
    }
    guard offset + tails.count < bytes.count else { return nil }
    for (index, range) in tails.enumerated() where !range.contains(bytes[offset + 1 + index]) {
      return nil
    }
    return 1 + tails.count
  }
}
