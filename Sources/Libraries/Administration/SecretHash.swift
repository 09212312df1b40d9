import Crypto
import Metering

/// Hashes with SHA-256 in hexadecimal. Only this is stored of a token, a link or a cookie.
package enum SecretHash {
  package static func of(_ secret: String) -> String {
    Hexadecimal.text(Array(SHA256.hash(data: Array(secret.utf8))))
  }
}
