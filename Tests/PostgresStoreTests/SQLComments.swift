/// Finds the comments of SQL text.
///
/// Text in dollar quotes counts as SQL and not as a string, because that is how
/// `pg_get_functiondef` shows the body of a function.
enum SQLComments {
  /// The text without its comments, and without the blank lines and trailing spaces that they
  /// leave behind. Strings and quoted identifiers stay exactly as they are.
  static func removed(from sql: String) -> String {
    let text = Array(sql.utf8)
    var kept: [UInt8] = []
    var at = 0
    while at < text.count {
      let next = at + 1 < text.count ? text[at + 1] : 0
      switch (text[at], next) {
      case (UInt8(ascii: "-"), UInt8(ascii: "-")):
        at = text[at...].firstIndex(of: newline) ?? text.count
      case (UInt8(ascii: "/"), UInt8(ascii: "*")):
        at = endOfBlock(text, from: at)
        if kept.last != space && kept.last != newline { kept.append(space) }
        while at < text.count, text[at] == space { at += 1 }
      case (UInt8(ascii: "'"), _), (UInt8(ascii: "\""), _):
        let end = endOfQuotes(text, from: at)
        kept += text[at..<end]
        at = end
      case (newline, _):
        endLine(&kept)
        at += 1
      default:
        kept.append(text[at])
        at += 1
      }
    }
    endLine(&kept)
    return String(decoding: kept, as: UTF8.self)
  }

  private static let newline = UInt8(ascii: "\n")
  private static let space = UInt8(ascii: " ")

  private static func endLine(_ kept: inout [UInt8]) {
    while kept.last == space { kept.removeLast() }
    if let last = kept.last, last != newline { kept.append(newline) }
  }

  /// Block comments of PostgreSQL nest.
  private static func endOfBlock(_ text: [UInt8], from start: Int) -> Int {
    var depth = 1
    var at = start + 2
    while at < text.count, depth > 0 {
      if text[at...].starts(with: "/*".utf8) {
        depth += 1
        at += 2
      } else if text[at...].starts(with: "*/".utf8) {
        depth -= 1
        at += 2
      } else {
        at += 1
      }
    }
    return at
  }

  /// A doubled quote is a part of the text. In a string of the form E'…' a backslash escapes the
  /// byte after it.
  private static func endOfQuotes(_ text: [UInt8], from start: Int) -> Int {
    let quote = text[start]
    let hasEscapes =
      quote == UInt8(ascii: "'") && start > 0 && text[start - 1] | 0x20 == UInt8(ascii: "e")
      && (start < 2 || !isPartOfName(text[start - 2]))
    var at = start + 1
    while at < text.count {
      if hasEscapes && text[at] == UInt8(ascii: "\\") {
        at += 2
      } else if text[at] != quote {
        at += 1
      } else if at + 1 < text.count, text[at + 1] == quote {
        at += 2
      } else {
        return at + 1
      }
    }
    return text.count
  }

  private static func isPartOfName(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "$"), 0x80...:
      true
    default: false
    }
  }
}
