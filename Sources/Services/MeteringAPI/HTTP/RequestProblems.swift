import HTTPTypes
import NIOCore
import NIOHTTP1
import NIOHTTPTypes

/// Answers bytes that are not HTTP/1.1 with a problem, and closes the connection.
final class ParserProblems: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  private var isBroken = false
  /// The number of requests whose answers have not ended.
  private var open = 0

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isBroken { return }
    if case .head = unwrapInboundIn(data) { open += 1 }
    context.fireChannelRead(data)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    if case .end = unwrapOutboundIn(data) { open -= 1 }
    context.write(data, promise: promise)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !isBroken else { return }
    isBroken = true
    // A problem cannot be sent in the middle of another answer.
    guard open == 0, let error = error as? HTTPParserError else {
      context.close(promise: nil)
      return
    }
    let answer = Problem(error).answer
    guard case .bytes(let bytes) = answer.body else { return }
    var headers = HTTPHeaders()
    for field in answer.headers { headers.add(name: field.name.canonicalName, value: field.value) }
    headers.add(name: "content-length", value: String(bytes.count))
    headers.add(name: "connection", value: "close")
    let status = HTTPResponseStatus(statusCode: answer.status.code)
    let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: bytes)))), promise: nil)
    let channel = context.channel
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
      channel.close(promise: nil)
    }
  }
}

/// Answers an HTTP/1.1 head that is not a valid request, for example if its method is not a token.
final class HeadProblems: ChannelInboundHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundOut = HTTPResponsePart

  private var isBroken = false

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if !isBroken { context.fireChannelRead(data) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !isBroken else { return }
    isBroken = true
    // Nothing is known about the request, so another answer may be under way.
    context.close(promise: nil)
  }
}

extension Problem {
  /// Makes the problem for a request that the decoder refused.
  fileprivate init(_ error: HTTPParserError) {
    self =
      error == .headerOverflow
      ? Problem(
        .requestHeaderFieldsTooLarge, "headers_too_large",
        "The header may have 100 fields of up to 8 KiB, and 16 KiB in total.")
      : Problem(.badRequest, "not_http", "The request is not HTTP/1.1.")
  }
}
