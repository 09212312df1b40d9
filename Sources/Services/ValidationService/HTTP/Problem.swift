import JSONText
import NIOHTTP1

/// An answer that is an error, by RFC 9457.
struct Problem: Error {
  var status: HTTPResponseStatus
  /// A fixed word of the program.
  var code: String
  /// One sentence that says what to do; nothing of the request.
  var detail: String
  var headers: [(name: String, value: String)] = []

  static func badRequest(_ code: String, _ detail: String) -> Problem {
    Problem(status: .badRequest, code: code, detail: detail)
  }

  static let unauthorized = Problem(
    status: .unauthorized, code: "unauthorized",
    detail: "Send a token that holds: Authorization: Bearer …",
    headers: [("www-authenticate", "Bearer")])

  static func unavailable(_ detail: String) -> Problem {
    Problem(
      status: .serviceUnavailable, code: "unavailable", detail: detail,
      headers: [("retry-after", "1")])
  }

  static func tooLarge(_ maximumBytes: Int) -> Problem {
    Problem(
      status: .payloadTooLarge, code: "too_large",
      detail: "The body may have at most \(maximumBytes) bytes.")
  }

  /// Of a request that the decoder gave up.
  init(_ error: HTTPParserError) {
    self =
      error == .headerOverflow
      ? Problem(
        status: .requestHeaderFieldsTooLarge, code: "headers_too_large",
        detail: "The header may have 100 fields of 8 KiB, 16 KiB together.")
      : .badRequest("not_http", "The request is not HTTP/1.1.")
  }

  /// What a request's head says wrongly about itself; nil: nothing.
  ///
  /// RFC 9112 section 3.2: 400 to a request of HTTP/1.1 without `Host`, and to any request with
  /// more than one, or with one that is no host.
  init?(_ version: HTTPVersion, _ fields: RequestFields) {
    guard version.major == 1 else {
      self = .badRequest("not_http", "The request is not HTTP/1.1.")
      return
    }
    let isCountValid = fields.hostCount == 1 || (version.minor == 0 && fields.hostCount == 0)
    if isCountValid, fields.isHostValid { return nil }
    self = .badRequest("bad_host", "The request must have one Host field that names a host.")
  }

  init(
    status: HTTPResponseStatus, code: String, detail: String,
    headers: [(name: String, value: String)] = []
  ) {
    self.status = status
    self.code = code
    self.detail = detail
    self.headers = headers
  }

  var answer: APIAnswer {
    var json = JSONWriter()
    json.beginObject()
    json.member("type", "about:blank")
    json.member("title", status.reasonPhrase)
    json.member("status", Int64(status.code))
    json.member("code", code)
    json.member("detail", detail)
    json.endObject()
    return APIAnswer(
      status: status, type: "application/problem+json", headers: headers, body: json.bytes)
  }
}
