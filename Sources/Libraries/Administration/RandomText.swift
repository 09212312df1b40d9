import Crypto
import Metering

/// Ids and secrets that nobody can guess.
package enum RandomText {
  private static let letters = Array(
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

  /// A prefix and so many bytes of the system's randomness in base 62. 8 bytes name something; what is a secret takes 32.
  package static func make(_ prefix: String, bytes: Int) -> String {
    prefix + String((0..<bytes * 8 / 6 + 1).map { _ in letters.randomElement()! })
  }

  package static func bytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }

  /// SHA-256 in hexadecimal: all that is kept of a token, a link or a cookie.
  package static func hash(_ secret: String) -> String {
    Hexadecimal.text(Array(SHA256.hash(data: Array(secret.utf8))))
  }
}

/// A length of time as people write it: `15m`, `12h`, `90d`.
package enum Lifetime {
  /// Nil unless it is a number from 1 to 100,000 and a unit.
  package static func seconds(_ text: String) -> Int64? {
    guard (2...7).contains(text.utf8.count), text.utf8.allSatisfy({ $0 < 0x80 && $0 != 0x2B }),
      let count = Int64(text.dropLast()), (1...100_000).contains(count)
    else { return nil }
    switch text.last {
    case "m": return count * 60
    case "h": return count * 3_600
    case "d": return count * 86_400
    default: return nil
    }
  }
}
