import Metering

/// A JSON document to print. Members stay in the order in which they were given.
///
/// Literals work: `["batch": .text(name), "lines": .integer(n)]`, `["a", "b"]`, `nil`.
indirect enum JSON: Equatable, Sendable {
  case object([(String, JSON)])
  case array([JSON])
  case text(String)
  case integer(Int64)
  case number(Double)
  case boolean(Bool)
  case null

  static func int(_ value: some BinaryInteger) -> JSON { .integer(Int64(value)) }
  static func optional(_ value: String?) -> JSON { value.map { .text($0) } ?? .null }
  static func optional(_ value: Int64?) -> JSON { value.map { .integer($0) } ?? .null }

  static func == (a: JSON, b: JSON) -> Bool { a.compact == b.compact }

  /// On one line without spaces.
  var compact: String {
    var result = ""
    write(to: &result, indent: nil)
    return result
  }

  /// Indented by two spaces for each level.
  var pretty: String {
    var result = ""
    write(to: &result, indent: 0)
    return result
  }

  private func write(to out: inout String, indent: Int?) {
    switch self {
    case .null: out += "null"
    case .boolean(let value): out += value ? "true" : "false"
    case .integer(let value): out += String(value)
    // JSON has no NaN and no infinity.
    case .number(let value): out += value.isFinite ? "\(value)" : "null"
    case .text(let value): Self.quote(value, to: &out)
    case .array(let items):
      Self.list("[", "]", items, to: &out, indent: indent) { item, out, inner in
        item.write(to: &out, indent: inner)
      }
    case .object(let members):
      Self.list("{", "}", members, to: &out, indent: indent) { member, out, inner in
        Self.quote(member.0, to: &out)
        out += inner == nil ? ":" : ": "
        member.1.write(to: &out, indent: inner)
      }
    }
  }

  private static func list<T>(
    _ open: String, _ close: String, _ items: [T], to out: inout String, indent: Int?,
    _ each: (T, inout String, Int?) -> Void
  ) {
    out += open
    let inner = indent.map { $0 + 1 }
    for (i, item) in items.enumerated() {
      if i > 0 { out += "," }
      if let inner { out += "\n" + String(repeating: "  ", count: inner) }
      each(item, &out, inner)
    }
    if let indent, !items.isEmpty { out += "\n" + String(repeating: "  ", count: indent) }
    out += close
  }

  private static func quote(_ text: String, to out: inout String) {
    out += "\""
    for scalar in text.unicodeScalars {
      if scalar == "\"" || scalar == "\\" || !Terminal.isHarmless(scalar) {
        JSONEscape.append(scalar, to: &out)
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    out += "\""
  }
}

extension JSON: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral,
  ExpressibleByStringLiteral, ExpressibleByNilLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByIntegerLiteral
{
  init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements) }
  init(arrayLiteral elements: JSON...) { self = .array(elements) }
  init(stringLiteral value: String) { self = .text(value) }
  init(nilLiteral: ()) { self = .null }
  init(booleanLiteral value: Bool) { self = .boolean(value) }
  init(integerLiteral value: Int64) { self = .integer(value) }
}
