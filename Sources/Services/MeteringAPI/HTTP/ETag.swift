import Crypto
import Licensing

/// Entity tags. Equal bytes have the same tag, and different bytes have different tags.
enum ETag {
  /// Makes the tag of the bytes, with its quotes.
  static func of(_ bytes: [UInt8]) -> String { of(bytes[...]) }

  /// Makes the tag of all parts together.
  static func of(_ parts: ArraySlice<UInt8>...) -> String {
    var hash = SHA256()
    for part in parts { hash.update(data: part) }
    return "\"" + Base64URL.encode(Array(hash.finalize().prefix(16))) + "\""
  }

  /// Whether a header `If-None-Match` or `If-Match` names the tag. A compressed answer has the same
  /// tag with `-gzip` at its end.
  static func names(_ header: String, _ tag: String) -> Bool {
    let plain = withoutSuffix(tag)
    return header.split(separator: ",").contains { part in
      var part = part.drop { $0 == " " }
      while part.last == " " { part.removeLast() }
      if part == "*" { return true }
      if part.hasPrefix("W/") { part = part.dropFirst(2) }
      return withoutSuffix(String(part)).utf8.elementsEqual(plain.utf8)
    }
  }

  /// The tag of an answer that is sent compressed.
  static func compressed(_ tag: String) -> String {
    tag.hasSuffix("\"") ? tag.dropLast() + suffix + "\"" : tag
  }

  private static let suffix = "-gzip"

  private static func withoutSuffix(_ tag: String) -> String {
    tag.hasSuffix(suffix + "\"") ? tag.dropLast(suffix.utf8.count + 1) + "\"" : tag
  }
}
