/// A JSON string within a payload. The bytes between its quotes are already known to be
/// grammatical.
package struct StringToken: Sendable {
  package var start: Int
  package var end: Int
  package var hasEscapes: Bool

  package enum Problem { case nul, loneSurrogate }

  /// Appends the unescaped bytes to `output`, which must have room for `end - start` more.
  /// Unescaping never lengthens a text.
  ///
  /// - Returns: the number of bytes written, and the first problem in the specification's order.
  ///   U+0000 comes before a lone surrogate, which is written as U+FFFD.
  package func unescape(
    from bytes: UnsafeRawBufferPointer, into output: UnsafeMutablePointer<UInt8>
  ) -> (count: Int, problem: Problem?) {
    var i = start
    var n = 0
    var nul = false
    var surrogate = false
    func put(_ b: UInt8) {
      output[n] = b
      n += 1
    }
    func putScalar(_ v: UInt32) {
      switch v {
      case 0..<0x80: put(UInt8(v))
      case 0x80..<0x800:
        put(UInt8(0xC0 | v >> 6))
        put(UInt8(0x80 | v & 0x3F))
      case 0x800..<0x10000:
        put(UInt8(0xE0 | v >> 12))
        put(UInt8(0x80 | v >> 6 & 0x3F))
        put(UInt8(0x80 | v & 0x3F))
      default:
        put(UInt8(0xF0 | v >> 18))
        put(UInt8(0x80 | v >> 12 & 0x3F))
        put(UInt8(0x80 | v >> 6 & 0x3F))
        put(UInt8(0x80 | v & 0x3F))
      }
    }
    while i < end {
      let b = bytes[i]
      guard b == 0x5C else {
        put(b)
        i += 1
        continue
      }
      let escape = bytes[i + 1]
      i += 2
      switch escape {
      case 0x62: put(0x08)
      case 0x66: put(0x0C)
      case 0x6E: put(0x0A)
      case 0x72: put(0x0D)
      case 0x74: put(0x09)
      case 0x75:
        let unit = Self.fourHexDigits(bytes, at: i)
        i += 4
        if (0xD800..<0xDC00).contains(unit), i + 6 <= end, bytes[i] == 0x5C, bytes[i + 1] == 0x75 {
          let low = Self.fourHexDigits(bytes, at: i + 2)
          if (0xDC00..<0xE000).contains(low) {
            putScalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00))
            i += 6
            continue
          }
        }
        if (0xD800..<0xE000).contains(unit) {
          surrogate = true
          putScalar(0xFFFD)
        } else {
          if unit == 0 { nul = true }
          putScalar(unit)
        }
      default: put(escape)
      }
    }
    return (n, nul ? .nul : surrogate ? .loneSurrogate : nil)
  }

  private static func fourHexDigits(_ bytes: UnsafeRawBufferPointer, at i: Int) -> UInt32 {
    var value: UInt32 = 0
    for k in i..<i + 4 { value = value << 4 | UInt32(hexDigit(bytes[k]) ?? 0) }
    return value
  }

  package static func hexDigit(_ b: UInt8) -> UInt8? {
    switch b {
    case 0x30...0x39: b - 0x30
    case 0x41...0x46: b - 0x37
    case 0x61...0x66: b - 0x57
    default: nil
    }
  }
}
