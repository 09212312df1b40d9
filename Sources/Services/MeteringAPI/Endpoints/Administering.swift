import Administration
import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore

/// Helpers for endpoints that change things through `Administrator`, which holds the rules and
/// writes the audit log.
extension APIRequest {
  /// The body as it was sent, for rules that read it themselves. An empty body reads as an empty
  /// object.
  var jsonValue: JSONValue {
    get throws(Problem) {
      // This refuses a body that is not an object, contains a name twice, or has another content
      // type.
      _ = try json
      do {
        return try JSONReader.parse(body.isEmpty ? Array("{}".utf8) : body, maximumValues: 20_000)
      } catch {
        throw Problem(.badRequest, "not_json", "The body must be JSON: \(error).")
      }
    }
  }

  /// Refuses a body with members, because these operations have none.
  func finishBody() throws(Problem) {
    var fields = try json
    try fields.finish()
  }

  /// Whether the client's `If-Match` names the resource as it is now. It is true without the
  /// header.
  func isExpected(_ resource: Resource) -> Bool {
    headers[.ifMatch].map { ETag.names($0, resource.tag) } ?? true
  }

  /// The path's parameter as a text for SQL.
  func id(_ name: String = "id") throws(Problem) -> String { try parameter(name).string }

  /// The path's parameter as a number. Throws 404 if it is not a number.
  func number(_ name: String = "id") throws(Problem) -> Int64 {
    let text = try id(name)
    guard let number = Int64(text), number >= 0, String(number) == text else {
      throw Problem.notFound
    }
    return number
  }

  /// Refuses all query parameters but `numbers`, because these operations have no others.
  ///
  /// - Returns: whether quantities are written as strings.
  @discardableResult
  func finishQuery() throws(Problem) -> Bool {
    var fields = try query
    let quotesQuantities = fields.choice("numbers", of: ["string", "number"]) == "string"
    try fields.finish()
    return quotesQuantities
  }

  /// Runs a change and writes its audit row in one transaction.
  func administer(
    _ body: @escaping @Sendable (Administrator) throws -> APIAnswer
  ) async throws -> APIAnswer {
    try finishQuery()
    let (context, tenant) = (auditContext, caller.customerID)
    do {
      return try await write { transaction in
        try body(Administrator(transaction.connection, by: context, tenant: tenant))
      }
    } catch let refusal as AdministrationRefusal {
      throw Problem(refusal)
    }
  }
}

extension Problem {
  init(_ refusal: AdministrationRefusal) {
    let status: HTTPResponse.Status =
      switch refusal.kind {
      case .invalid: .badRequest
      case .notFound: .notFound
      case .conflict: .conflict
      case .changedMeanwhile: .preconditionFailed
      case .forbidden: .forbidden
      case .unavailable: .serviceUnavailable
      }
    let errors = refusal.errors.map {
      Blame(parameter: $0.parameter, detail: Self.sentence($0.detail))
    }
    // The name of a parameter keeps its spelling.
    let isOfOne = errors.count == 1 && !errors[0].parameter.isEmpty
    self.init(
      status, refusal.code,
      isOfOne && refusal.kind == .invalid
        ? Self.ended("\(errors[0].parameter): \(refusal.errors[0].detail)")
        : Self.sentence(refusal.detail),
      errors: errors,
      headers: refusal.kind == .unavailable ? [.retryAfter: "60"] : [:])
  }

  private static func sentence(_ text: String) -> String {
    ended(text.prefix(1).uppercased() + text.dropFirst())
  }

  private static func ended(_ text: String) -> String {
    text.hasSuffix(".") || text.hasSuffix("?") ? text : text + "."
  }
}

/// One resource as it is answered, with its members in order.
struct Resource: Sendable {
  let bytes: [UInt8]
  /// The entity tag that `If-Match` and `If-None-Match` compare. It does not depend on how
  /// quantities are written, so that a client may read and change with different `numbers`.
  let tag: String

  init(
    _ columns: [String], _ cells: [Cell], more: [(String, Cell)] = [],
    quotesQuantities: Bool = false
  ) {
    func json(_ quotesQuantities: Bool) -> [UInt8] {
      var json = JSONWriter()
      json.beginObject()
      for (name, cell) in zip(columns, cells) {
        json.member(name, cell: cell, quotesQuantities: quotesQuantities)
      }
      for (name, cell) in more {
        json.member(name, cell: cell, quotesQuantities: quotesQuantities)
      }
      json.endObject()
      return json.bytes
    }
    let plain = json(false)
    tag = ETag.of(plain)
    bytes = quotesQuantities ? json(true) : plain
  }

  func answer(status: HTTPResponse.Status = .ok, location: String? = nil) -> APIAnswer {
    var headers: HTTPFields = [.eTag: tag]
    if let location { headers[.location] = location }
    return .json(status: status, headers: headers, bytes)
  }

  /// Makes an answer with a secret that is shown once. Caches on the way must not store it.
  func secretAnswer(status: HTTPResponse.Status, location: String? = nil) -> APIAnswer {
    var headers: HTTPFields = [.cacheControl: "no-store"]
    if let location { headers[.location] = location }
    return .json(status: status, headers: headers, bytes)
  }
}

extension Cell {
  /// JSON that PostgreSQL wrote, with its blanks removed.
  ///
  /// - Parameter isQuantity: whether a number of this name in an object is a quantity. Nil if there
  ///   are none.
  static func document(
    _ text: String, quantities isQuantity: ((JSONString) -> Bool)? = nil
  ) -> Cell {
    guard let value = try? JSONReader.parse(Array(text.utf8)) else {
      // PostgreSQL always returns valid JSON here, so this is reached only through a bug.
      return .text(text)
    }
    func written(_ value: JSONValue) -> [UInt8] {
      var writer = JSONWriter()
      writer.value(value)
      return writer.bytes
    }
    guard let isQuantity, case .object(var members) = value else { return .json(written(value)) }
    for (i, member) in members.enumerated() where isQuantity(member.name) {
      guard case .number(let digits) = member.value else { continue }
      members[i].value = .string(JSONString(bytes: Array(digits.utf8)))
    }
    return .quantities(written(value), quoted: written(.object(members)))
  }

  static func optionalDocument(_ text: String?) -> Cell { text.map { document($0) } ?? .null }

  /// The text of a cell, for a cursor.
  var key: String {
    switch self {
    case .text(let text): text
    case .integer(let value), .quantity(let value), .time(let value): String(value)
    default: ""
    }
  }
}

/// Percent-encodes a segment of a path.
enum PathSegment {
  static func encode(_ text: String) -> String {
    // Clients remove these segments from a path, even if only one dot is escaped.
    if text == "." { return "%2E" }
    if text == ".." { return "%2E%2E" }
    let digits = Array("0123456789ABCDEF".utf8)
    var result: [UInt8] = []
    for byte in text.utf8 {
      let isPlain =
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
        || "-_.~".utf8.contains(byte)
      if isPlain {
        result.append(byte)
      } else {
        result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}
