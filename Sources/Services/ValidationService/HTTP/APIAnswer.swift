import HTTPListening
import NIOCore
import NIOHTTP1

/// The answer to a request.
struct APIAnswer: Sendable {
  var status: HTTPResponseStatus
  /// Of the body; nil: there is none.
  var type: String?
  /// Beside those that every answer has. Of the program's own words: they are written as they are.
  var headers: [(name: String, value: String)] = []
  var body: [UInt8] = []

  /// - Parameters:
  ///   - isHead: to a request that wants no body.
  ///   - connection: of the header of that name.
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

/// The answer to a request: there already, or after something was waited for.
enum Reply {
  case now(APIAnswer)
  case later(@Sendable () async -> APIAnswer)
}
