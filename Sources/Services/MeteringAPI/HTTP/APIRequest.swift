import HTTPTypes
import Metering
import PostgresStore

/// One request, as a handler sees it.
struct APIRequest: Sendable {
  let route: Route
  /// The values of the parameters in the path's template, decoded.
  let parameters: [String: String]
  /// The text after `?`, percent-encoded.
  let queryText: String
  let headers: HTTPFields
  /// At most `API.maximumBodyBytes` long, and empty for GET.
  let body: [UInt8]
  /// Names the request in logs, the audit trail and the answer's `X-Request-Id`.
  let id: String
  /// The client's address, if it is known.
  let address: String?
  /// The host, and the port where there is one, by which the client reached us.
  let authority: String?
  var caller: Caller
  let context: APIContext

  var userAgent: String? { headers[.userAgent].map { String($0.prefix(500)) } }

  /// The query's parameters.
  var query: Fields { get throws(Problem) { try Fields(urlEncoded: queryText) } }

  /// The body's members. An empty body reads as an empty object.
  var json: JSONFields {
    get throws(Problem) {
      if body.isEmpty { return try JSONFields(Array("{}".utf8)) }
      try requireType("application/json", "application/merge-patch+json")
      return try JSONFields(body)
    }
  }

  /// The fields of a page's form.
  var form: Fields {
    get throws(Problem) {
      try requireType("application/x-www-form-urlencoded")
      guard let text = String(validating: body, as: UTF8.self) else {
        throw Problem(.badRequest, "bad_request", "The form must be UTF-8.")
      }
      return try Fields(urlEncoded: text)
    }
  }

  func parameter(_ name: String) throws(Problem) -> Identifier {
    guard let text = parameters[name], text.utf8.count <= Limits.subjectBytes else {
      throw Problem.notFound
    }
    return Identifier(text)
  }

  private func requireType(_ types: String...) throws(Problem) {
    let given = (headers[.contentType] ?? "").split(separator: ";").first.map { $0.lowercased() }
    guard given.map({ types.contains($0.filter { $0 != " " }) }) ?? false else {
      throw Problem(
        .unsupportedMediaType, "unsupported_media_type",
        "Send the body with Content-Type: \(types[0]).")
    }
  }

  /// Runs `body` at one snapshot.
  func read<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await context.database.read(for: caller.customerID, body)
  }
}
