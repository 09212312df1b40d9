import Billing
import JSONText

/// A part of an answer of the API. An absent part reads as nil, as an empty list or as an empty
/// text.
struct PageData: Sendable {
  let value: JSONValue?

  /// Makes a part that reads as a text.
  init(text: String) { value = .string(JSONString(bytes: Array(text.utf8))) }

  init(_ value: JSONValue?) { self.value = value == .null ? nil : value }

  subscript(_ name: String) -> PageData { PageData(value?.members?[name]) }

  var text: String? { value?.text }
  var integer: Int64? { value?.integer }
  var boolean: Bool { value?.boolean ?? false }
  var list: [PageData] { (value?.elements ?? []).map(PageData.init(_:)) }
  var texts: [String] { list.compactMap(\.text) }
  var isAbsent: Bool { value == nil }

  /// The members of an object, in their order.
  var members: [(name: String, value: PageData)] {
    (value?.members ?? []).map {
      (String(decoding: $0.name.bytes, as: UTF8.self), PageData($0.value))
    }
  }

  /// The milliseconds since 1970 of an RFC 3339 time. Smaller units are cut off.
  var time: Int64? {
    guard let text else { return nil }
    guard let dot = text.firstIndex(of: ".") else { return TimeText.read(text) }
    let digits = text[text.index(after: dot)...].prefix { $0.isNumber }
    let rest = text[text.index(dot, offsetBy: digits.count + 1)...]
    return TimeText.read(text[..<dot] + "." + digits.prefix(3) + rest)
  }

  /// Any value as a text for people.
  var shown: String? {
    switch value {
    case nil, .null: nil
    case .string: text ?? "(not Unicode)"
    case .number(let digits): digits
    case .bool(let value): value ? "yes" : "no"
    case .array(let elements):
      elements.compactMap { PageData($0).shown }.joined(separator: ", ")
    case .object: json
    }
  }

  /// The value as JSON with indentation.
  var json: String { value.map { Self.write($0, "") } ?? "" }

  private static func write(_ value: JSONValue, _ indent: String) -> String {
    let deeper = indent + "  "
    switch value {
    case .object(let members) where !members.isEmpty:
      let lines = members.map {
        "\(deeper)\(scalar(.string($0.name))): \(write($0.value, deeper))"
      }
      return "{\n\(lines.joined(separator: ",\n"))\n\(indent)}"
    case .array(let elements) where !elements.isEmpty:
      let lines = elements.map { deeper + write($0, deeper) }
      return "[\n\(lines.joined(separator: ",\n"))\n\(indent)]"
    default: return scalar(value)
    }
  }

  private static func scalar(_ value: JSONValue) -> String {
    switch value {
    case .string(let string):
      var writer = JSONWriter()
      writer.text(String(decoding: string.bytes, as: UTF8.self))
      return String(decoding: writer.bytes, as: UTF8.self)
    case .number(let digits): return digits
    case .bool(let value): return value ? "true" : "false"
    case .array: return "[]"
    case .object: return "{}"
    case .null: return "null"
    }
  }
}
