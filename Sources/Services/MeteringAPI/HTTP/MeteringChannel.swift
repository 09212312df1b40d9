import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// A connection's pipeline: HTTP/1.1 with bounds on headers, compression, and problems for what is no HTTP.
struct MeteringChannel: ServerChildChannel, HTTPChannelHandler {
  typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

  let requestMilliseconds: Int
  let responder: HTTPChannelHandler.Responder

  private static let idleSeconds: Int64 = 75
  private static let smallestCompressed = 1_024

  init(requestMilliseconds: Int, responder: @escaping HTTPChannelHandler.Responder) {
    self.requestMilliseconds = requestMilliseconds
    self.responder = responder
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    channel.eventLoop.makeCompletedFuture {
      var limits = NIOHTTPDecoderLimitConfiguration()
      limits.maxHeaderFieldSize = 8_192
      limits.maxHeaderListSize = 16_384
      limits.maxHeaderFieldCount = 100
      let pipeline = channel.pipeline.syncOperations
      try pipeline.configureHTTPServerPipeline(
        withPipeliningAssistance: false, withErrorHandling: false,
        withOutboundHeaderValidation: false, withEncoderConfiguration: .init(),
        withDecoderLimitConfiguration: limits)
      try pipeline.addHandler(
        HTTPResponseCompressor(responseCompressionPredicate: Self.shouldCompress))
      try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
      try pipeline.addHandler(ParserProblems())
      try pipeline.addHandler(
        HTTPConnectionStateHandler(idleTimeout: .seconds(Self.idleSeconds), logger: logger))
      return try NIOAsyncChannel(
        wrappingChannelSynchronously: channel,
        configuration: .init(isOutboundHalfClosureEnabled: true))
    }
  }

  func handle(value: Value, logger: Logger) async {
    await handleHTTP(asyncChannel: value, logger: logger)
  }

  private static func shouldCompress(
    _ head: inout HTTPResponseHead, _ isSupported: Bool
  ) -> HTTPResponseCompressor.CompressionIntent {
    let length = head.headers.first(name: "content-length").flatMap { Int($0) }
    let type = head.headers.first(name: "content-type") ?? ""
    let isText = ["application/", "text/", "image/svg"].contains { type.hasPrefix($0) }
    guard isSupported, isText, length ?? .max >= smallestCompressed else {
      return .doNotCompress
    }
    if let tag = head.headers.first(name: "etag") {
      head.headers.replaceOrAdd(name: "etag", value: ETag.compressed(tag))
    }
    head.headers.add(name: "vary", value: "accept-encoding")
    return .compressIfPossible
  }
}

/// Answers a request that is no HTTP/1.1 with a problem, and closes the connection.
private final class ParserProblems: ChannelDuplexHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  private var isBroken = false
  /// Requests whose answers have not ended.
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
    // In the middle of another answer nothing can be said.
    guard open == 0, !(error is IOError) else {
      context.close(promise: nil)
      return
    }
    let isOverflow = (error as? HTTPParserError) == .headerOverflow
    let problem =
      isOverflow
      ? Problem(
        .requestHeaderFieldsTooLarge, "headers_too_large",
        "The header may have 100 fields of 8 KiB, 16 KiB together.")
      : Problem(.badRequest, "not_http", "The request is not HTTP/1.1.")
    var answer = problem.answer
    answer.headers[.connection] = "close"
    guard case .bytes(let bytes) = answer.body else { return }
    answer.headers[.contentLength] = String(bytes.count)
    let head = HTTPResponse(status: answer.status, headerFields: answer.headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(ByteBuffer(bytes: bytes))), promise: nil)
    let channel = context.channel
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
      channel.close(promise: nil)
    }
  }
}
