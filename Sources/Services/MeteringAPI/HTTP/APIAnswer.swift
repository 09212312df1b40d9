import HTTPTypes
import HummingbirdCore
import JSONText
import NIOCore

/// Takes the pieces of a streamed body, and waits while the client does not read them.
struct BodyWriter {
  private(set) var inner: any ResponseBodyWriter

  init(_ inner: any ResponseBodyWriter) { self.inner = inner }

  mutating func write(_ bytes: [UInt8]) async throws {
    if !bytes.isEmpty { try await inner.write(ByteBuffer(bytes: bytes)) }
  }
}

/// The answer of a handler.
struct APIAnswer: Sendable {
  enum Body: Sendable {
    case bytes([UInt8])
    /// Writes the body piece by piece. If it throws, the connection is aborted, so that nobody
    /// takes a cut answer for a whole one.
    case stream(@Sendable (inout BodyWriter) async throws -> Void)
  }

  var status: HTTPResponse.Status
  var headers: HTTPFields
  var body: Body

  init(
    status: HTTPResponse.Status = .ok, type: String, headers: HTTPFields = [:], bytes: [UInt8]
  ) {
    self.status = status
    self.headers = headers
    self.headers[.contentType] = type
    body = .bytes(bytes)
  }

  init(
    type: String, headers: HTTPFields = [:],
    stream: @escaping @Sendable (inout BodyWriter) async throws -> Void
  ) {
    status = .ok
    self.headers = headers
    self.headers[.contentType] = type
    body = .stream(stream)
  }

  static func json(
    status: HTTPResponse.Status = .ok, headers: HTTPFields = [:], _ bytes: [UInt8]
  ) -> APIAnswer {
    APIAnswer(status: status, type: "application/json", headers: headers, bytes: bytes)
  }

  /// Makes a JSON object with the members that `body` writes.
  static func object(
    status: HTTPResponse.Status = .ok, headers: HTTPFields = [:],
    _ body: (inout JSONWriter) throws -> Void
  ) rethrows -> APIAnswer {
    var writer = JSONWriter()
    writer.beginObject()
    try body(&writer)
    writer.endObject()
    return .json(status: status, headers: headers, writer.bytes)
  }

  static let noContent: APIAnswer = {
    var answer = APIAnswer(status: .noContent, type: "", bytes: [])
    answer.headers = [:]
    return answer
  }()
}
