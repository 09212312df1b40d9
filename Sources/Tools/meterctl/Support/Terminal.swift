import Foundation

/// The two streams: results go to stdout, everything else to stderr.
enum Terminal {
  static let errorIsTerminal = isatty(STDERR_FILENO) == 1
  static let inputIsTerminal = isatty(STDIN_FILENO) == 1
  static let outputIsTerminal = isatty(STDOUT_FILENO) == 1

  /// Writes a line to stderr. Nothing in it can control the terminal.
  static func error(_ line: String) { write(printable(line, keepingLines: true) + "\n") }

  /// Writes the text to stderr unchanged.
  static func write(_ text: String) {
    // If stderr is closed, there is nobody to tell.
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// `text` with control and format characters as `\u{1b}`. Customers choose ids, domains and error
  /// texts, which must neither move a cursor nor change the direction of a line. All output for
  /// people goes through here.
  ///
  /// - Parameter keepingLines: for text that has several lines already. In a single value, line
  ///   feeds are escaped too.
  static func printable(_ text: String, keepingLines: Bool = false) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      if isHarmless(scalar) || (keepingLines && scalar == "\n") {
        result.unicodeScalars.append(scalar)
      } else {
        result += "\\u{" + String(scalar.value, radix: 16) + "}"
      }
    }
    return result
  }

  static func isHarmless(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
    default: true
    }
  }

  /// `n` with separated thousands: 1,234,567.
  static func grouped(_ n: some BinaryInteger) -> String {
    let digits = Array(String(n.magnitude))
    var result = n < 0 ? "-" : ""
    for (i, digit) in digits.enumerated() {
      if i > 0, (digits.count - i) % 3 == 0 { result.append(",") }
      result.append(digit)
    }
    return result
  }

  /// `1 period`, `2,000 periods`.
  static func count(_ n: some BinaryInteger, _ noun: String) -> String {
    "\(grouped(n)) \(noun)\(n == 1 ? "" : "s")"
  }

  /// `text` in `width` columns, cut or filled with spaces.
  static func padded(_ text: String, _ width: Int, right: Bool = false) -> String {
    let fill = String(repeating: " ", count: max(0, width - DisplayWidth.of(text)))
    return right ? fill + text : text + fill
  }

  /// Rows below a headline, with columns as wide as their widest cell.
  ///
  /// - Parameter right: the indices of columns with numbers.
  static func table(_ headline: [String], _ rows: [[String]], right: Set<Int> = []) -> String {
    let rows = rows.map { $0.map { printable($0) } }
    var widths = headline.map { DisplayWidth.of($0) }
    for row in rows {
      for (i, cell) in row.enumerated() { widths[i] = max(widths[i], DisplayWidth.of(cell)) }
    }
    return ([headline] + rows).map { row in
      let line = row.enumerated().map { i, cell in
        padded(cell, widths[i], right: right.contains(i))
      }.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed())
    }.joined(separator: "\n")
  }
}
