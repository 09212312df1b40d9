import Foundation

/// The two streams: results on stdout, everything else on stderr.
enum Terminal {
  static let errorIsTerminal = isatty(STDERR_FILENO) == 1
  static let inputIsTerminal = isatty(STDIN_FILENO) == 1
  static let outputIsTerminal = isatty(STDOUT_FILENO) == 1

  /// A line on stderr.
  static func error(_ line: String) { write(line + "\n") }

  /// On stderr as it is.
  static func write(_ text: String) {
    // A stderr that was closed leaves nobody to tell.
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// `n` with thousands separated: 1,234,567.
  static func grouped(_ n: some BinaryInteger) -> String {
    let digits = Array(String(n.magnitude))
    var result = n < 0 ? "-" : ""
    for (i, digit) in digits.enumerated() {
      if i > 0, (digits.count - i) % 3 == 0 { result.append(",") }
      result.append(digit)
    }
    return result
  }

  /// `text` in `width` columns, cut or filled up with blanks.
  static func padded(_ text: String, _ width: Int, right: Bool = false) -> String {
    let fill = String(repeating: " ", count: max(0, width - text.count))
    return right ? fill + text : text + fill
  }

  /// Rows under a headline, columns as wide as their widest cell.
  ///
  /// - Parameter right: indices of columns of numbers.
  static func table(_ headline: [String], _ rows: [[String]], right: Set<Int> = []) -> String {
    var widths = headline.map(\.count)
    for row in rows {
      for (i, cell) in row.enumerated() { widths[i] = max(widths[i], cell.count) }
    }
    return ([headline] + rows).map { row in
      let line = row.enumerated().map { i, cell in
        padded(cell, widths[i], right: right.contains(i))
      }.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed())
    }.joined(separator: "\n")
  }
}
