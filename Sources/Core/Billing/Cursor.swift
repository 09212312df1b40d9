import Crypto
import JSONText
import Licensing

/// The place where a list goes on. It is the key of the last row that was shown, with a signature,
/// so that nobody can invent one. Because it is a key and not a count, it stays right while rows
/// come and go.
///
/// The text is `base64url(payload) . base64url(first 16 bytes of HMAC-SHA256)`. The signature
/// covers the list and its filters as well, so another list refuses the cursor.
package struct CursorSigner: Sendable {
  private let key: SymmetricKey

  /// - Parameter key: at least 16 secret bytes, the same in every process of an installation.
  package init(key: [UInt8]) { self.key = SymmetricKey(data: key) }

  /// - Parameters:
  ///   - values: the key of the last row.
  ///   - scope: the list with all its filters. `read` needs the same text.
  package func write(_ values: [String], scope: String) -> String {
    var writer = JSONWriter()
    writer.beginArray()
    for value in values { writer.text(value) }
    writer.endArray()
    return Base64URL.encode(writer.bytes) + "." + Base64URL.encode(mark(writer.bytes, scope))
  }

  /// The values. Nil if the cursor was changed, or if it belongs to another list.
  package func read(_ cursor: String, scope: String) -> [String]? {
    let parts = cursor.split(separator: ".", omittingEmptySubsequences: false)
    guard cursor.utf8.count <= 8_192, parts.count == 2,
      let payload = Base64URL.decode(parts[0].utf8), let mark = Base64URL.decode(parts[1].utf8),
      isEqual(mark, self.mark(payload, scope)),
      // From here on, the cursor is known to be ours.
      let elements = try? JSONReader.parse(payload).elements
    else { return nil }
    let values = elements.compactMap(\.text)
    return values.count == elements.count ? values : nil
  }

  private func mark(_ payload: [UInt8], _ scope: String) -> [UInt8] {
    var authenticator = HMAC<SHA256>(key: key)
    authenticator.update(data: Array("cursor ".utf8))
    authenticator.update(data: Array(SHA256.hash(data: Array(scope.utf8))))
    authenticator.update(data: payload)
    return Array(authenticator.finalize().prefix(16))
  }

  /// Compares in a time that does not depend on where the bytes differ.
  private func isEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    a.count == b.count && zip(a, b).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
  }
}
