import Crypto
import Licensing

/// Entity tags: of equal bytes the same, of others different ones.
enum ETag {
  /// Quotes included.
  static func of(_ bytes: [UInt8]) -> String { of(bytes[...]) }

  /// Of the parts together.
  static func of(_ parts: ArraySlice<UInt8>...) -> String {
    var hash = SHA256()
    for part in parts { hash.update(data: part) }
    return "\"" + Base64URL.encode(Array(hash.finalize().prefix(16))) + "\""
  }

  /// Whether a header `If-None-Match` or `If-Match` names the tag. What was compressed has the same tag with `-gzip` in its end.
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

  /// Of what is sent compressed.
  static func compressed(_ tag: String) -> String {
    tag.hasSuffix("\"") ? tag.dropLast() + suffix + "\"" : tag
  }

  private static let suffix = "-gzip"

  private static func withoutSuffix(_ tag: String) -> String {
    tag.hasSuffix(suffix + "\"") ? tag.dropLast(suffix.utf8.count + 1) + "\"" : tag
  }
}
