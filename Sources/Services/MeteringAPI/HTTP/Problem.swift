import HTTPTypes
import JSONText

/// An error answer as in RFC 9457. A handler throws it to answer with it.
struct Problem: Error, Sendable {
  /// A parameter or a member of the body that is wrong.
  struct Blame: Sendable, Equatable {
    var parameter: String
    /// One sentence that says what to change.
    var detail: String
  }

  var status: HTTPResponse.Status
  /// A fixed word for programs.
  var code: String
  /// One sentence that says what to change.
  var detail: String
  var errors: [Blame] = []
  /// Further members. Each is a JSON value.
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
    .unauthorized, "unauthorized", "Send a valid token: Authorization: Bearer …",
    headers: [.wwwAuthenticate: "Bearer"])

  /// It is also the answer for what belongs to another customer, so that ids cannot be probed.
  static let notFound = Problem(.notFound, "not_found", "Nothing was found here.")

  static func notFound(_ what: String) -> Problem {
    Problem(.notFound, "not_found", "There is no such \(what).")
  }

  static func badParameters(_ errors: [Blame]) -> Problem {
    Problem(
      .badRequest, "bad_request",
      errors.count == 1
        ? "\(errors[0].parameter): \(errors[0].detail)"
        : "Several parameters are wrong. The member errors names each of them.", errors: errors)
  }

  static func badParameter(_ name: String, _ detail: String) -> Problem {
    badParameters([Blame(parameter: name, detail: detail)])
  }

  static let badCursor = Problem(
    .badRequest, "bad_cursor",
    "The cursor does not belong to this list. Begin again without a cursor.",
    errors: [Blame(parameter: "cursor", detail: "It was changed, or it belongs to another list.")])

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
    "An internal error occurred. The service's log describes it under this X-Request-Id.")

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
