import JSONText
import NIOHTTP1

/// An answer that is an error (RFC 9457).
struct Problem: Error {
  var status: HTTPResponseStatus
  /// A fixed word of the program.
  var code: String
  /// One sentence that says what to do. It quotes nothing of the request.
  var detail: String
  var headers: [(name: String, value: String)] = []

  static func badRequest(_ code: String, _ detail: String) -> Problem {
    Problem(status: .badRequest, code: code, detail: detail)
  }

  static let unauthorized = Problem(
    status: .unauthorized, code: "unauthorized",
    detail: "Send a valid token: Authorization: Bearer …",
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

  /// The problem for a request that the decoder rejected.
  init(_ error: HTTPParserError) {
    self =
      error == .headerOverflow
      ? Problem(
        status: .requestHeaderFieldsTooLarge, code: "headers_too_large",
        detail: "The header may have 100 fields of up to 8 KiB, and 16 KiB in total.")
      : .badRequest("not_http", "The request is not HTTP/1.1.")
  }

  /// Finds what is wrong with a request's head; nil if nothing is.
  ///
  /// RFC 9112, section 3.2: a request of HTTP/1.1 without `Host`, and any request with several, or
  /// with one that is not a host, gets status 400.
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
