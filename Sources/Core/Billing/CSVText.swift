/// Comma-separated values as in RFC 4180 that are safe to open in a spreadsheet.
///
/// A text that a spreadsheet would run as a formula gets an apostrophe in front, which marks a
/// text. Numbers stay as they are, even negative ones.
package enum CSVText {
  /// Appends one line with its CR and LF.
  package static func append(_ cells: some Sequence<Cell>, to out: inout [UInt8]) {
    var isFirst = true
    for cell in cells {
      if !isFirst { out.append(UInt8(ascii: ",")) }
      isFirst = false
      append(cell, to: &out)
    }
    out.append(contentsOf: "\r\n".utf8)
  }

  /// The line with the columns' names.
  package static func header(_ columns: [String]) -> [UInt8] {
    var out: [UInt8] = []
    append(columns.map { Cell.text($0) }, to: &out)
    return out
  }

  private static func append(_ cell: Cell, to out: inout [UInt8]) {
    switch cell {
    case .null: break
    case .text(let text): append(text, to: &out)
    case .integer(let value), .quantity(let value): out.append(contentsOf: String(value).utf8)
    case .number(let value): if value.isFinite { out.append(contentsOf: "\(value)".utf8) }
    case .boolean(let value): out.append(contentsOf: (value ? "true" : "false").utf8)
    case .time(let milliseconds): out.append(contentsOf: TimeText.write(milliseconds).utf8)
    case .json(let bytes), .quantities(let bytes, _):
      append(String(decoding: bytes, as: UTF8.self), to: &out)
    }
  }

  private static func append(_ text: String, to out: inout [UInt8]) {
    let isFormula = startsFormula(text)
    let needsQuotes = text.utf8.contains {
      $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\r")
        || $0 == UInt8(ascii: "\n")
    }
    if needsQuotes { out.append(UInt8(ascii: "\"")) }
    if isFormula { out.append(UInt8(ascii: "'")) }
    for byte in text.utf8 {
      if byte == UInt8(ascii: "\"") { out.append(byte) }
      out.append(byte)
    }
    if needsQuotes { out.append(UInt8(ascii: "\"")) }
  }

  /// Spreadsheets skip blanks in front, and some also accept the full-width signs.
  private static func startsFormula(_ text: String) -> Bool {
    for scalar in text.unicodeScalars {
      switch scalar {
      case " ", "\u{A0}": continue
      case "=", "+", "-", "@", "\t", "\r", "\n", "|", "\u{FF1D}", "\u{FF0B}", "\u{FF0D}",
        "\u{FF20}":
        return true
      default: return false
      }
    }
    return false
  }
}
