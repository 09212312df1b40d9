import HTTPListening
import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOSSL

/// A connection's pipeline. It handles TLS if that is configured, HTTP/1.1 with bounds on headers,
/// compression, and problems for bytes that are not HTTP.
struct MeteringChannel: ServerChildChannel, HTTPChannelHandler {
  typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

  let settings: APISettings
  let connections: ConnectionTable
  let responder: HTTPChannelHandler.Responder

  private static let idleSeconds: Int64 = 75
  private static let smallestCompressed = 1_024
  /// A header field that marks an answer without a body. Compressing such an answer would give it a
  /// body.
  static let plainMark = "x-meter-plain"

  init(
    settings: APISettings, connections: ConnectionTable,
    responder: @escaping HTTPChannelHandler.Responder
  ) {
    self.settings = settings
    self.connections = connections
    self.responder = responder
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    channel.eventLoop.makeCompletedFuture {
      let client = settings.clients.client(channel.remoteAddress)
      let entry = try connections.admit(channel, client.isTrustedProxy ? nil : client.group)
      channel.closeFuture.whenComplete { [connections] _ in connections.leave(entry) }
      var limits = NIOHTTPDecoderLimitConfiguration()
      limits.maxHeaderFieldSize = 8_192
      limits.maxHeaderListSize = 16_384
      limits.maxHeaderFieldCount = 100
      let pipeline = channel.pipeline.syncOperations
      if let tls = settings.tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
      try pipeline.configureHTTPServerPipeline(
        withPipeliningAssistance: false, withErrorHandling: false,
        withOutboundHeaderValidation: false, withEncoderConfiguration: .init(),
        withDecoderLimitConfiguration: limits)
      try pipeline.addHandler(
        ConnectionGuard(
          entry: entry, requestLimit: .milliseconds(Int64(settings.requestMilliseconds)),
          isTLS: settings.tls != nil))
      // It stands in front of the compressor, which would trap at an answer without a request.
      try pipeline.addHandler(ParserProblems())
      try pipeline.addHandler(GzipPreference())
      try pipeline.addHandler(
        HTTPResponseCompressor(responseCompressionPredicate: Self.shouldCompress))
      try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: settings.tls != nil))
      try pipeline.addHandler(HeadProblems())
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
    guard head.headers.first(name: plainMark) == nil else {
      head.headers.remove(name: plainMark)
      return .doNotCompress
    }
    let length = head.headers.first(name: "content-length").flatMap { Int($0) }
    let type = head.headers.first(name: "content-type") ?? ""
    let isText = ["application/", "text/", "image/svg"].contains { type.hasPrefix($0) }
    guard isText, length ?? .max >= smallestCompressed else { return .doNotCompress }
    head.headers.add(name: "vary", value: "accept-encoding")
    guard isSupported else { return .doNotCompress }
    if let tag = head.headers.first(name: "etag") {
      head.headers.replaceOrAdd(name: "etag", value: ETag.compressed(tag))
    }
    return .compressIfPossible
  }
}
