import Metering

/// Escapes texts that leave the process as a single line: log lines, JSON bodies, error lines.
enum LineText {
  /// A longer value is cut and marked with `…`, so that one log call cannot fill a disk.
  static let maximumValueScalars = 8_192

  /// Appends `text` as a JSON string with its quotes (RFC 8259, section 7).
  ///
  /// - Complexity: O(n).
  static func appendJSON(_ text: String, to output: inout String) {
    output.append("\"")
    appendEscaped(text, quoted: true, to: &output)
    output.append("\"")
  }

  /// Appends `text` unchanged if it is one plain word, otherwise as a JSON string.
  static func appendWord(_ text: String, to output: inout String) {
    let plain =
      !text.isEmpty
      && text.unicodeScalars.allSatisfy {
        $0 != " " && $0 != "=" && $0 != "\"" && $0 != "\\" && !mustEscape($0)
      }
    if plain {
      appendEscaped(text, quoted: false, to: &output)
    } else {
      appendJSON(text, to: &output)
    }
  }

  /// `text` with every line break and control character escaped.
  static func singleLine(_ text: String) -> String {
    var output = ""
    appendEscaped(text, quoted: false, to: &output)
    return output
  }

  private static func appendEscaped(_ text: String, quoted: Bool, to output: inout String) {
    var count = 0
    for scalar in text.unicodeScalars {
      count += 1
      if count > maximumValueScalars {
        output.append("…")
        return
      }
      if mustEscape(scalar) || quoted && (scalar == "\"" || scalar == "\\") {
        JSONEscape.append(scalar, to: &output)
      } else {
        output.unicodeScalars.append(scalar)
      }
    }
  }

  /// Control characters (including C1), the two separators at which some readers break lines, and
  /// characters that change the direction of a line. An event id chosen by a customer must not
  /// forge a log line or control a terminal.
  private static func mustEscape(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7F...0x9F, 0x61C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
  }
}
