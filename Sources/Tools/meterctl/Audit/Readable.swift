import JSONText
import Metering

/// Bytes in readable form: text if they are UTF-8, otherwise hexadecimal.
struct Readable {
  let isText: Bool
  let text: String
  /// The same on one line. Line ends of a value between other lines could forge some.
  var line: String { Terminal.printable(text) }

  init(_ bytes: [UInt8]) {
    if let decoded = String(validating: bytes, as: UTF8.self) {
      isText = true
      // A value that gets separate lines may contain line ends.
      text = decoded.split(separator: "\n", omittingEmptySubsequences: false)
        .map { Terminal.printable(String($0)) }.joined(separator: "\n")
    } else {
      isText = false
      text = Hexadecimal.text(bytes)
    }
  }

  static func json(_ bytes: [UInt8]) -> JSON {
    String(validating: bytes, as: UTF8.self).map { ["text": .text($0)] }
      ?? ["hex": .text(Readable(bytes).text)]
  }
}
