package import JSONText

/// A customer's statement of one month. It is a JSON document with one canonical spelling.
package struct Statement: Sendable, Equatable {
  private let members: [JSONMember]

  /// - Parameters:
  ///   - document: the document that `StatementStore` reads. Each line gets links to the windows of
  ///     its usage and to its events.
  ///   - basePath: the prefix of the API's paths, such as `/billing`.
  /// - Returns: nil if the document is not an object.
  package init?(document: String, basePath: String = "") {
    // PostgreSQL wrote this JSON, so the kind of error does not matter.
    guard let members = (try? JSONReader.parse(Array(document.utf8)))?.members else { return nil }
    self.members = members.map { member in
      guard member.name.equals("lines"), let lines = member.value.elements else { return member }
      return JSONMember(name: member.name, value: .array(lines.map { Self.linked($0, basePath) }))
    }
  }

  package var isClosed: Bool { members["status"]?.text == "closed" }

  package var month: String { members["month"]?.text ?? "" }

  /// The document with names in the order of their bytes, without blanks, and with integers in
  /// digits. These bytes are signed.
  package var canonicalJSON: [UInt8] { CanonicalJSON.bytes(.object(members)) }

  /// The canonical document with the signature as its last member.
  ///
  /// - Parameter quotesQuantities: whether quantities are written as strings. The signed document
  ///   has them as integers in any case.
  package func json(signature: String?, quotesQuantities: Bool = false) -> [UInt8] {
    let document = JSONValue.object(members)
    var bytes = CanonicalJSON.bytes(quotesQuantities ? Self.quoted(document) : document)
    guard let signature else { return bytes }
    var json = JSONWriter()
    json.text(signature)
    bytes.removeLast()
    return bytes + Array(",\"signature\":".utf8) + json.bytes + [UInt8(ascii: "}")]
  }

  private static let quantities = [
    "quantity", "included", "overage", "adjustment_quantity", "billable_quantity",
  ]

  /// The value with its quantities as strings, at every depth.
  private static func quoted(_ value: JSONValue) -> JSONValue {
    switch value {
    case .array(let elements): .array(elements.map(quoted))
    case .object(let members):
      .object(
        members.map { member in
          if case .number(let digits) = member.value,
            quantities.contains(where: { member.name.equals($0) })
          {
            let text = JSONString(bytes: Array(digits.utf8))
            return JSONMember(name: member.name, value: .string(text))
          }
          return JSONMember(name: member.name, value: quoted(member.value))
        })
    default: value
    }
  }

  /// The columns of a line in CSV.
  package static let columns = [
    "license_id", "meter", "period_start", "period_end", "status", "quantity", "event_count",
    "included", "overage", "adjustment_quantity", "billable_quantity",
  ]

  /// The lines in CSV.
  package var rows: [[Cell]] {
    (members["lines"]?.elements ?? []).map { line in
      Self.columns.map { name in
        switch line.members?[name] {
        case .string(let text): .text(String(decoding: text.bytes, as: UTF8.self))
        case .number(let digits): Int64(digits).map { .quantity($0) } ?? .text(digits)
        default: .null
        }
      }
    }
  }

  /// Encodes all characters except RFC 3986's unreserved ones as `%XX`.
  private static func encoded(_ text: String) -> String {
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "a")...UInt8(ascii: "z"):
        bytes.append(byte)
      case _ where "-._~".utf8.contains(byte): bytes.append(byte)
      default:
        let digits = Array("0123456789ABCDEF".utf8)
        bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func linked(_ line: JSONValue, _ basePath: String) -> JSONValue {
    guard let members = line.members else { return line }
    let query = [
      ("license_id", "license_id"), ("meter", "meter"), ("from", "period_start"),
      ("to", "period_end"),
    ].map { name, member in
      name + "=" + encoded(members[member]?.text ?? "")
    }.joined(separator: "&")
    func text(_ value: String) -> JSONValue { .string(JSONString(bytes: Array(value.utf8))) }
    func name(_ value: String) -> JSONString { JSONString(bytes: Array(value.utf8)) }
    let links = JSONValue.object([
      JSONMember(name: name("windows"), value: text("\(basePath)/v1/usage?\(query)&window=day")),
      JSONMember(name: name("events"), value: text("\(basePath)/v1/usage/events?\(query)")),
    ])
    return .object(members + [JSONMember(name: name("links"), value: links)])
  }
}

/// JSON with one spelling for each value. Members are in the order of their names' bytes, and there
/// are no blanks.
package enum CanonicalJSON {
  package static func bytes(_ value: JSONValue) -> [UInt8] {
    var json = JSONWriter()
    write(value, to: &json)
    return json.bytes
  }

  private static func write(_ value: JSONValue, to json: inout JSONWriter) {
    switch value {
    case .null: json.null()
    case .bool(let value): json.boolean(value)
    case .number(let digits): json.raw(digits)
    case .string(let string): json.text(String(decoding: string.bytes, as: UTF8.self))
    case .array(let elements):
      json.beginArray()
      for element in elements { write(element, to: &json) }
      json.endArray()
    case .object(let members):
      json.beginObject()
      let sorted = members.sorted { $0.name.bytes.lexicographicallyPrecedes($1.name.bytes) }
      for member in sorted {
        json.name(String(decoding: member.name.bytes, as: UTF8.self))
        write(member.value, to: &json)
      }
      json.endObject()
    }
  }
}
