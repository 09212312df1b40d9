/// Base64 as in RFC 4648 section 5 without padding, which RFC 7515 requires.
package enum Base64URL {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

  private static let values: [UInt8] = {
    var values = [UInt8](repeating: 0xFF, count: 256)
    for (i, letter) in alphabet.enumerated() { values[Int(letter)] = UInt8(i) }
    return values
  }()

  package static func append(_ bytes: some Collection<UInt8>, to text: inout [UInt8]) {
    let done: Void? = bytes.withContiguousStorageIfAvailable { bytes in
      let start = text.count
      let length = (bytes.count * 4 + 2) / 3
      text.append(contentsOf: repeatElement(0, count: length))
      text.withUnsafeMutableBufferPointer { encode(bytes, into: $0[start...]) }
    }
    if done == nil { append(Array(bytes), to: &text) }
  }

  /// Encodes three bytes into four letters at a time.
  private static func encode(
    _ bytes: UnsafeBufferPointer<UInt8>, into text: Slice<UnsafeMutableBufferPointer<UInt8>>
  ) {
    alphabet.withUnsafeBufferPointer { alphabet in
      var text = text
      var out = text.startIndex
      var i = 0
      while i + 3 <= bytes.count {
        let bits = Int(bytes[i]) << 16 | Int(bytes[i + 1]) << 8 | Int(bytes[i + 2])
        text[out] = alphabet[bits >> 18]
        text[out + 1] = alphabet[bits >> 12 & 63]
        text[out + 2] = alphabet[bits >> 6 & 63]
        text[out + 3] = alphabet[bits & 63]
        out += 4
        i += 3
      }
      if bytes.count - i == 1 {
        text[out] = alphabet[Int(bytes[i]) >> 2]
        text[out + 1] = alphabet[Int(bytes[i]) << 4 & 63]
      } else if bytes.count - i == 2 {
        let bits = Int(bytes[i]) << 8 | Int(bytes[i + 1])
        text[out] = alphabet[bits >> 10]
        text[out + 1] = alphabet[bits >> 4 & 63]
        text[out + 2] = alphabet[bits << 2 & 63]
      }
    }
  }

  package static func encode(_ bytes: some Collection<UInt8>) -> String {
    var text: [UInt8] = []
    append(bytes, to: &text)
    return String(decoding: text, as: UTF8.self)
  }

  /// Returns nil unless it is the only spelling of its bytes. Padding, other letters, blanks and
  /// bits after the last byte are refused, because a comparison would take two spellings of a token
  /// for two tokens.
  package static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    guard text.count % 4 != 1 else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count * 3 / 4)
    var bits: UInt32 = 0
    var count = 0
    for letter in text {
      let value = values[Int(letter)]
      guard value != 0xFF else { return nil }
      bits = bits << 6 | UInt32(value)
      count += 6
      if count >= 8 {
        count -= 8
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
      }
    }
    guard bits & (1 << UInt32(count) - 1) == 0 else { return nil }
    return bytes
  }
}
