import Metering

/// Makes ids, secrets and keys that nobody can guess, with the system's generator.
package enum SystemRandom {
  private static let letters = Array(
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

  package static func bytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
  }

  package static func word() -> UInt64 {
    var generator = SystemRandomNumberGenerator()
    return generator.next()
  }

  /// 128 bits, or as many as the caller asks for, with two digits for each byte.
  package static func hexadecimal(bytes count: Int = 16) -> String {
    Hexadecimal.text(bytes(count))
  }

  /// 64 bits in base 36, which are at most 13 characters. Names of producers end with them.
  package static func base36() -> String { String(word(), radix: 36) }

  /// A prefix and a number of bytes in base 62. An id takes 8 bytes, and a secret takes 32.
  package static func base62(_ prefix: String, bytes: Int) -> String {
    var generator = SystemRandomNumberGenerator()
    return prefix
      + String(
        (0..<bytes * 8 / 6 + 1).map { _ in
          letters[Int.random(in: 0..<letters.count, using: &generator)]
        })
  }

  /// A UUID of RFC 9562, version 4, in lower case.
  package static func uuid() -> String {
    var bytes = bytes(16)
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    let text = Array(Hexadecimal.text(bytes))
    return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(text[$0]) }
      .joined(separator: "-")
  }
}
