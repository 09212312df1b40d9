import Hummingbird
import JSONText

/// An answer that is an error, by RFC 9457.
struct Problem: Error {
  var status: HTTPResponse.Status
  /// A fixed word of the program.
  var code: String
  /// One sentence that says what to do; nothing of the request.
  var detail: String
  var headers: HTTPFields = [:]

  static func badRequest(_ code: String, _ detail: String) -> Problem {
    Problem(status: .badRequest, code: code, detail: detail)
  }

  static let unauthorized = Problem(
    status: .unauthorized, code: "unauthorized",
    detail: "Send a token that holds: Authorization: Bearer …",
    headers: [.wwwAuthenticate: "Bearer"])

  static func unavailable(_ detail: String) -> Problem {
    Problem(
      status: .serviceUnavailable, code: "unavailable", detail: detail,
      headers: [.retryAfter: "1"])
  }

  var response: Response {
    var json = JSONWriter()
    json.beginObject()
    json.member("type", "about:blank")
    json.member("title", status.reasonPhrase)
    json.member("status", Int64(status.code))
    json.member("code", code)
    json.member("detail", detail)
    json.endObject()
    return Response.bytes(status, json.bytes, type: "application/problem+json", headers: headers)
  }
}

extension Response {
  static func bytes(
    _ status: HTTPResponse.Status, _ bytes: [UInt8], type: String, headers: HTTPFields = [:]
  ) -> Response {
    var all = headers
    all[.contentType] = type
    all[.cacheControl] = "no-store"
    return Response(
      status: status, headers: all, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }
}
