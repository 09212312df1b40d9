import Foundation

/// What stdout can display.
struct Screen {
  var columns: Int
  var rows: Int
  var hasColors: Bool
  /// Whether a refresh may move the cursor back to the beginning.
  var canRefresh = false

  /// The properties of stdout now. They may change between two calls. A pipe has no size and no
  /// colors.
  static func current(
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> Screen {
    guard Terminal.outputIsTerminal else {
      return Screen(columns: .max, rows: .max, hasColors: false)
    }
    var size = winsize()
    let isKnown = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0
    let columns = isKnown && size.ws_col > 0 ? Int(size.ws_col) : 80
    let rows = isKnown && size.ws_row > 0 ? Int(size.ws_row) : 24
    return terminal(columns: columns, rows: rows, environment)
  }

  /// A terminal of that size, as `TERM` and `NO_COLOR` describe it.
  static func terminal(columns: Int, rows: Int, _ environment: [String: String]) -> Screen {
    let isDumb = environment["TERM"] == "dumb"
    // https://no-color.org: any value that is not empty turns colors off.
    let isRefused = !(environment["NO_COLOR"] ?? "").isEmpty
    return Screen(
      columns: columns, rows: rows, hasColors: !isDumb && !isRefused, canRefresh: !isDumb)
  }

  enum Style: String {
    case bold = "1"
    case dim = "2"
    case red = "1;31"
    case green = "32"
    case yellow = "33"
  }

  /// A line of a screen. Its style applies to the whole line.
  struct Line: Equatable {
    var text: String
    var style: Style?

    init(_ text: String, _ style: Style? = nil) {
      self.text = text
      self.style = style
    }
  }

  /// The line without its end, cut to the width.
  func render(_ line: Line) -> String {
    var text = Terminal.printable(line.text)
    if columns < .max, DisplayWidth.of(text) > columns {
      text = DisplayWidth.prefix(text, columns: max(0, columns - 1)) + "…"
    }
    guard hasColors, let style = line.style else { return text }
    return "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m"
  }

  /// The text in as many lines as it needs, broken between words. All lines but the first are
  /// indented.
  func wrap(_ text: String, indent: Int, _ style: Style? = nil) -> [Line] {
    guard columns < .max else { return [Line(text, style)] }
    let fill = String(repeating: " ", count: min(indent, columns / 4))
    var lines: [Line] = []
    var line = ""
    for word in Terminal.printable(text).split(separator: " ", omittingEmptySubsequences: false) {
      if line.isEmpty {
        line = String(word)
      } else if DisplayWidth.of(line) + 1 + DisplayWidth.of(word) <= columns {
        line += " " + word
      } else {
        lines.append(Line(line, style))
        line = fill + word
      }
    }
    return lines + [Line(line, style)]
  }

  /// The output that refreshes a terminal. Each line is cleared before it is written, because
  /// clearing after a line that fills the width would remove its last character.
  func refresh(_ lines: [Line]) -> String {
    "\u{1B}[H" + fit(lines).map { "\u{1B}[K" + $0 + "\n" }.joined() + "\u{1B}[J"
  }

  /// The lines that fit, each cut to the width. A last line says how many are left out.
  func fit(_ lines: [Line]) -> [String] {
    // The row below the last line stays free, so that nothing scrolls.
    let room = max(1, rows == .max ? .max : rows - 1)
    guard lines.count > room else { return lines.map(render) }
    let hidden = lines.count - room + 1
    return lines.prefix(room - 1).map(render)
      + [render(Line("… \(hidden) more lines: a taller window shows them", .dim))]
  }

  /// A table whose columns fit. Columns in `optional` are left out, in this order, until the rest
  /// fits.
  func table(
    _ headline: [String], _ rows: [[String]], right: Set<Int> = [], optional: [Int] = []
  ) -> [Line] {
    var shown = Array(headline.indices)
    var widths = headline.map { DisplayWidth.of($0) }
    for row in rows {
      for (i, cell) in row.enumerated() { widths[i] = max(widths[i], DisplayWidth.of(cell)) }
    }
    for column in optional {
      let needed = shown.reduce(-2) { $0 + widths[$1] + 2 }
      if needed <= columns { break }
      shown.removeAll { $0 == column }
    }
    let text = Terminal.table(
      shown.map { headline[$0] }, rows.map { row in shown.map { row[$0] } },
      right: Set(shown.indices.filter { right.contains(shown[$0]) }))
    return text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().map {
      Line(String($0.element), $0.offset == 0 ? .bold : nil)
    }
  }
}
