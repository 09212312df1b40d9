/// Writes bytes as text with two lower-case digits for each byte.
package enum Hexadecimal {
  package static func text(_ bytes: some Collection<UInt8>) -> String {
    String(unsafeUninitializedCapacity: bytes.count * 2) { buffer in
      for (i, byte) in bytes.enumerated() {
        buffer[2 * i] = digit(byte >> 4)
        buffer[2 * i + 1] = digit(byte & 15)
      }
      return bytes.count * 2
    }
  }

  /// The bytes of `text`. PostgreSQL writes the same digits with `encode(…, 'hex')`.
  ///
  /// - Precondition: the text has only such digits. Other characters give bytes without a meaning,
  ///   and a single last digit is left out.
  package static func bytes(_ text: some StringProtocol) -> [UInt8] {
    let values = text.utf8.map { UInt8($0 >= 0x61 ? $0 - 0x61 + 10 : $0 &- 0x30) }
    return stride(from: 0, to: values.count - values.count % 2, by: 2).map {
      values[$0] << 4 | values[$0 + 1]
    }
  }

  /// - Parameter value: 0 to 15.
  static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x61 - 10 + value }
}
