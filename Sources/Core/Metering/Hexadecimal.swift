/// Two lower-case digits a byte.
package enum Hexadecimal {
  package static func text(_ bytes: some Collection<UInt8>) -> String {
    let digits: StaticString = "0123456789abcdef"
    return String(unsafeUninitializedCapacity: bytes.count * 2) { buffer in
      for (i, byte) in bytes.enumerated() {
        buffer[2 * i] = digits.utf8Start[Int(byte >> 4)]
        buffer[2 * i + 1] = digits.utf8Start[Int(byte & 15)]
      }
      return bytes.count * 2
    }
  }
}
