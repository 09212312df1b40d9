import HTTPTypes
import JSONText

/// An answer that is an error, by RFC 9457. Throw one from a handler to answer with it.
struct Problem: Error, Sendable {
  /// A parameter or a member of the body that is to blame.
  struct Blame: Sendable, Equatable {
    var parameter: String
    /// One sentence that says what to change.
    var detail: String
  }

  var status: HTTPResponse.Status
  /// A fixed word of the program.
  var code: String
  /// One sentence that says what to change.
  var detail: String
  var errors: [Blame] = []
  /// Further members, each a JSON value.
  var members: [(name: String, json: [UInt8])] = []
  var headers: HTTPFields = [:]

  init(
    _ status: HTTPResponse.Status, _ code: String, _ detail: String, errors: [Blame] = [],
    members: [(name: String, json: [UInt8])] = [], headers: HTTPFields = [:]
  ) {
    self.status = status
    self.code = code
    self.detail = detail
    self.errors = errors
    self.members = members
    self.headers = headers
  }

  static let unauthorized = Problem(
    .unauthorized, "unauthorized", "Send a token that holds: Authorization: Bearer …",
    headers: [.wwwAuthenticate: "Bearer"])

  /// Also for what belongs to another customer, so that ids cannot be probed.
  static let notFound = Problem(.notFound, "not_found", "There is no such thing here.")

  static func notFound(_ what: String) -> Problem {
    Problem(.notFound, "not_found", "There is no such \(what).")
  }

  static func badParameters(_ errors: [Blame]) -> Problem {
    Problem(
      .badRequest, "bad_request",
      errors.count == 1
        ? "\(errors[0].parameter): \(errors[0].detail)"
        : "Several parameters are wrong; errors says which and why.", errors: errors)
  }

  static func badParameter(_ name: String, _ detail: String) -> Problem {
    badParameters([Blame(parameter: name, detail: detail)])
  }

  static let badCursor = Problem(
    .badRequest, "bad_cursor",
    "The cursor is not one of this list; begin again without it.",
    errors: [Blame(parameter: "cursor", detail: "It was changed, or belongs to another list.")])

  static func unavailable(_ detail: String, retryAfter seconds: Int = 1) -> Problem {
    Problem(
      .serviceUnavailable, "unavailable", detail, headers: [.retryAfter: String(seconds)])
  }

  static func conflict(_ code: String, _ detail: String) -> Problem {
    Problem(.conflict, code, detail)
  }

  static func tooLarge(_ maximumBytes: Int) -> Problem {
    Problem(
      .contentTooLarge, "too_large", "The body may have at most \(maximumBytes) bytes.")
  }

  static let internalError = Problem(
    .internalServerError, "internal_error",
    "Something went wrong here; the log has it under this request's X-Request-Id.")

  var answer: APIAnswer {
    var json = JSONWriter()
    json.beginObject()
    json.member("type", "about:blank")
    json.member("title", status.reasonPhrase)
    json.member("status", Int64(status.code))
    json.member("code", code)
    json.member("detail", detail)
    if !errors.isEmpty {
      json.name("errors")
      json.beginArray()
      for error in errors {
        json.beginObject()
        json.member("parameter", error.parameter)
        json.member("detail", error.detail)
        json.endObject()
      }
      json.endArray()
    }
    for member in members {
      json.name(member.name)
      json.raw(member.json)
    }
    json.endObject()
    return APIAnswer(
      status: status, type: "application/problem+json", headers: headers, bytes: json.bytes)
  }
}
