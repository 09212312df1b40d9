/// Writes texts as parts of addresses.
package enum PercentEncoding {
  /// Encodes a text as one segment of a path or one value of a query. Only the unreserved
  /// characters of RFC 3986 stay as they are.
  package static func encode(_ text: String) -> String {
    var bytes: [UInt8] = []
    let digits = Array("0123456789ABCDEF".utf8)
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        bytes.append(byte)
      default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    // A client would resolve "." and ".." as steps of the path.
    if bytes == [0x2E] { return "%2E" }
    if bytes == [0x2E, 0x2E] { return "%2E%2E" }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The text with `/` and `%` as `%2F` and `%25`, so that joined texts can be told apart again.
  /// Two texts never give the same segment.
  package static func segment(_ text: String) -> String {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "%") }) else {
      return text
    }
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "/"): bytes += "%2F".utf8
      case UInt8(ascii: "%"): bytes += "%25".utf8
      default: bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
