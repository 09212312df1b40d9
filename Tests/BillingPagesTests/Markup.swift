/// Reads HTML into tags as a browser would, as far as our templates need it, and refuses everything
/// that they do not contain. A text that broke out of its place shows as an unknown tag or
/// attribute, or as an element that is not closed.
enum Markup {
  struct Problem: Error, CustomStringConvertible {
    let description: String
  }

  private static let void: Set<String> = [
    "meta", "link", "input", "rect", "line", "path",
  ]
  private static let tags: Set<String> = [
    "html", "head", "body", "title", "script", "header", "main", "footer", "nav", "div", "span",
    "section", "p", "a", "h1", "h2", "ul", "li", "dl", "dt", "dd", "table", "caption", "thead",
    "tbody", "tfoot", "tr", "th", "td", "form", "label", "input", "select", "option", "datalist",
    "textarea",
    "button", "details", "summary", "figure", "figcaption", "strong", "code", "pre", "time", "bdi",
    "svg", "g", "text", "meta", "link", "rect", "line", "path",
  ]
  private static let attributes: Set<String> = [
    "lang", "charset", "name", "content", "http-equiv", "rel", "href", "type", "src", "defer",
    "class", "id", "role", "action", "for", "value", "placeholder", "autocomplete", "spellcheck",
    "method", "title", "aria-label", "aria-hidden", "aria-current", "aria-describedby", "tabindex",
    "datetime", "scope", "data-title", "open", "download", "list", "required", "readonly",
    "checked", "selected", "rows", "viewbox", "preserveaspectratio", "width", "height", "x", "y",
    "x1",
    "x2", "y1", "y2", "d", "text-anchor",
  ]

  static func check(_ html: String, _ name: String = "") throws {
    var reader = Reader(bytes: Array(html.utf8))
    var open: [String] = []
    while let tag = try reader.nextTag() {
      guard tags.contains(tag.name) else { throw Problem(description: "\(name): <\(tag.name)>") }
      for attribute in tag.attributes where !attributes.contains(attribute) {
        throw Problem(description: "\(name): \(attribute) in <\(tag.name)>")
      }
      if tag.closes {
        guard open.popLast() == tag.name else {
          throw Problem(description: "\(name): </\(tag.name)> closes something else")
        }
      } else if !void.contains(tag.name) {
        open.append(tag.name)
      }
    }
    guard open.isEmpty else { throw Problem(description: "\(name): \(open) is not closed") }
  }

  private struct Tag {
    var name: String
    var attributes: [String]
    var closes: Bool
  }

  private struct Reader {
    let bytes: [UInt8]
    var place = 0

    mutating func nextTag() throws -> Tag? {
      while place < bytes.count, bytes[place] != UInt8(ascii: "<") { place += 1 }
      guard place < bytes.count else { return nil }
      place += 1
      if bytes[place] == UInt8(ascii: "!") {
        while bytes[place] != UInt8(ascii: ">") { place += 1 }
        return try nextTag()
      }
      let closes = bytes[place] == UInt8(ascii: "/")
      if closes { place += 1 }
      let name = word(until: " />\n")
      var attributes: [String] = []
      while place < bytes.count, bytes[place] != UInt8(ascii: ">") {
        if " /\n".utf8.contains(bytes[place]) {
          place += 1
          continue
        }
        attributes.append(word(until: " =/>\n"))
        guard place < bytes.count, bytes[place] == UInt8(ascii: "=") else { continue }
        place += 1
        guard bytes[place] == UInt8(ascii: "\"") else {
          throw Problem(description: "a value of <\(name)> is not quoted")
        }
        place += 1
        while bytes[place] != UInt8(ascii: "\"") { place += 1 }
        place += 1
      }
      return Tag(name: name, attributes: attributes, closes: closes)
    }

    private mutating func word(until ends: String) -> String {
      let start = place
      while place < bytes.count, !ends.utf8.contains(bytes[place]) { place += 1 }
      return String(decoding: bytes[start..<place], as: UTF8.self).lowercased()
    }
  }
}
