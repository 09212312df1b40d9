import Mustache

/// Escapes text for HTML byte by byte.
///
/// swift-mustache's own escaping compares `Character`s. A quotation mark followed by a combining
/// accent is a single `Character`, so it would not be escaped and would end an attribute. Every
/// template therefore begins with this content type.
struct HTMLText: MustacheContentType {
  /// The name by which templates ask for this content type.
  static let name = "LICENSE_METERING_HTML"

  func escapeText(_ text: String) -> String { Self.escape(text) }

  /// Writes `& < > " '` as references. The result is safe in element content and in quoted
  /// attributes.
  ///
  /// - Complexity: O(bytes).
  static func escape(_ text: String) -> String {
    guard let first = text.utf8.firstIndex(where: { reference($0) != nil }) else { return text }
    var bytes = Array(text.utf8[..<first])
    for byte in text.utf8[first...] {
      if let reference = reference(byte) {
        bytes += reference.utf8
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func reference(_ byte: UInt8) -> String? {
    switch byte {
    case UInt8(ascii: "&"): "&amp;"
    case UInt8(ascii: "<"): "&lt;"
    case UInt8(ascii: ">"): "&gt;"
    case UInt8(ascii: "\""): "&quot;"
    case UInt8(ascii: "'"): "&#39;"
    default: nil
    }
  }
}
