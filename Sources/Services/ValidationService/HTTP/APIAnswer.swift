import HTTPListening
import NIOCore
import NIOHTTP1

/// The answer to a request.
struct APIAnswer: Sendable {
  var status: HTTPResponseStatus
  /// The media type of the body; nil if there is no body.
  var type: String?
  /// Headers in addition to those that every answer has. They are fixed texts of this program and
  /// are not escaped.
  var headers: [(name: String, value: String)] = []
  var body: [UInt8] = []

  /// - Parameters:
  ///   - isHead: the request was a HEAD and gets no body.
  ///   - connection: the value of the `Connection` header.
  ///   - now: milliseconds since 1970.
  func write(to out: inout ByteBuffer, isHead: Bool, connection: String?, now: Int64) {
    out.reserveCapacity(minimumWritableBytes: 512 + body.count)
    if status == .ok {
      out.writeStaticString("HTTP/1.1 200 OK\r\n")
    } else {
      out.writeString("HTTP/1.1 \(status.code) \(status.reasonPhrase)\r\n")
    }
    if let type {
      out.writeStaticString("content-type: ")
      out.writeString(type)
      out.writeStaticString("\r\ncontent-length: ")
      out.writeString(String(body.count))
      out.writeStaticString("\r\n")
    }
    for (name, value) in headers {
      out.writeString(name)
      out.writeStaticString(": ")
      out.writeString(value)
      out.writeStaticString("\r\n")
    }
    if let connection {
      out.writeStaticString("connection: ")
      out.writeString(connection)
      out.writeStaticString("\r\n")
    }
    out.writeStaticString("cache-control: no-store\r\ndate: ")
    out.writeWithUnsafeMutableBytes(minimumWritableBytes: HTTPDate.length) { bytes in
      HTTPDate.write(now, to: bytes)
      return HTTPDate.length
    }
    out.writeStaticString("\r\n\r\n")
    if !isHead { out.writeBytes(body) }
  }
}

/// The reply to a request: an answer, or a task that will have one.
enum Reply {
  case now(APIAnswer)
  case later(@Sendable () async -> APIAnswer)
}
