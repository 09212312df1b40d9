/// Reads the data that CloudEvents carries as bytes in `data_base64`, and its `datacontenttype`.
enum Base64Data {
  /// Decodes RFC 4648 section 4 strictly. The text must be padded and must not have white space or
  /// bits left over.
  ///
  /// - Parameter output: a buffer with room for as many bytes as `text` has.
  /// - Returns: the number of bytes written, or nil if the text is not base64.
  static func decode(
    _ text: UnsafeBufferPointer<UInt8>, into output: UnsafeMutablePointer<UInt8>
  ) -> Int? {
    guard text.count.isMultiple(of: 4), !text.isEmpty else { return nil }
    var end = text.count
    while end > text.count - 2, text[end - 1] == UInt8(ascii: "=") { end -= 1 }
    var bits: UInt32 = 0
    var heldBits: UInt32 = 0
    var count = 0
    for i in 0..<end {
      guard let value = value(text[i]) else { return nil }
      bits = bits << 6 | value
      heldBits += 6
      guard heldBits >= 8 else { continue }
      heldBits -= 8
      output[count] = UInt8(truncatingIfNeeded: bits >> heldBits)
      count += 1
      bits &= 1 << heldBits - 1
    }
    return bits == 0 ? count : nil
  }

  private static func value(_ symbol: UInt8) -> UInt32? {
    switch symbol {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(symbol - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(symbol - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(symbol - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }

  /// Whether a media type (RFC 9110 section 8.3.1) declares JSON, because its subtype is `json` or
  /// ends with `+json`. Parameters are ignored, because the bytes must be UTF-8 in any case.
  static func isJSON(mediaType text: UnsafeBufferPointer<UInt8>) -> Bool {
    var end = text.firstIndex(of: UInt8(ascii: ";")) ?? text.count
    var start = 0
    while start < end, isBlank(text[start]) { start += 1 }
    while end > start, isBlank(text[end - 1]) { end -= 1 }
    guard let slash = text[start..<end].firstIndex(of: UInt8(ascii: "/")), slash > start,
      slash + 1 < end
    else { return false }
    for i in start..<end where i != slash && !isTokenByte(text[i]) { return false }
    return (end - slash - 1 == 4 || text[max(slash + 1, end - 5)] == UInt8(ascii: "+"))
      && endsInJSON(text, end)
  }

  private static func endsInJSON(_ text: UnsafeBufferPointer<UInt8>, _ end: Int) -> Bool {
    let name: StaticString = "json"
    guard end >= 4 else { return false }
    for i in 0..<4 where text[end - 4 + i] | 0x20 != name.utf8Start[i] { return false }
    return true
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  private static func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    case UInt8(ascii: "!"), UInt8(ascii: "#")...UInt8(ascii: "'"), UInt8(ascii: "*"),
      UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "^")...UInt8(ascii: "`"),
      UInt8(ascii: "|"), UInt8(ascii: "~"):
      true
    default: false
    }
  }
}
