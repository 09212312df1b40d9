import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import WebhookDelivery

/// Makes requests to the service, each on its own connection. It follows no redirects and
/// decompresses nothing.
struct ServiceTransport: Sendable {
  /// A request to the service.
  struct Request: Sendable {
    var method = "POST"
    var path: String
    var headers: [(name: String, value: String)]
    var body: [UInt8] = []
    /// The largest answer that is read.
    var maximumAnswerBytes: Int
  }

  /// An answer that was read to its end.
  struct Answer: Sendable {
    var status: Int
    var body: [UInt8]
    var retryAfter: String?
  }

  private let address: ServiceAddress
  private let pins: ServicePins
  private let tls: NIOSSLContext?
  private let connectTimeout: TimeAmount

  init(_ options: LicenseClientOptions) throws(LicenseClientOptions.Invalid) {
    address = try ServiceAddress(options.url)
    pins = try ServicePins(options)
    connectTimeout = TimeAmount(options.connectTimeout)
    guard address.isTLS else {
      guard pins.isEmpty else { throw .init("pins need https") }
      tls = nil
      return
    }
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.minimumTLSVersion = .tlsv12
    configuration.applicationProtocols = ["http/1.1"]
    if let file = options.caFile {
      // The reason does not matter to the application, because it needs another file in any case.
      guard let roots = try? NIOSSLCertificate.fromPEMFile(file), !roots.isEmpty else {
        throw .init("caFile contains no certificate in PEM")
      }
      configuration.trustRoots = .certificates(roots)
    }
    do {
      tls = try NIOSSLContext(configuration: configuration)
    } catch {
      throw .init("TLS cannot be set up: \(error)")
    }
  }

  /// Makes one request.
  ///
  /// - Throws: `NoAnswer` if no complete answer came before the deadline. An answer may have any
  ///   status.
  func send(_ request: Request, deadline: NIODeadline) async throws(NoAnswer) -> Answer {
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let promise = loop.makePromise(of: HTTPAnswerReader.self)
    let timer = loop.scheduleTask(deadline: deadline) { promise.fail(NoAnswer.timeout) }
    defer { timer.cancel() }
    connect(on: loop, request, promise)
    let reader: HTTPAnswerReader
    do {
      reader = try await promise.futureResult.get()
    } catch {
      throw NoAnswer(error)
    }
    guard reader.kept.count <= request.maximumAnswerBytes else { throw .tooLarge }
    guard let status = reader.status, reader.isWhole else { throw .connection }
    return Answer(status: status, body: reader.kept, retryAfter: reader.retryAfter)
  }

  private func connect(
    on loop: any EventLoop, _ request: Request, _ promise: EventLoopPromise<HTTPAnswerReader>
  ) {
    let bytes = head(request) + request.body
    ClientBootstrap(group: loop)
      .connectTimeout(connectTimeout)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelInitializer { [address, pins, tls, connectTimeout] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let tls {
            try pipeline.addHandler(
              NIOSSLClientHandler(context: tls, serverHostname: address.serverName))
          }
          try pipeline.addHandler(
            ServiceExchange(
              channel, bytes, maximumAnswerBytes: request.maximumAnswerBytes, promise,
              handshake: tls == nil ? nil : (pins, connectTimeout)))
        }
      }
      .connect(host: address.host, port: address.port)
      .whenFailure { promise.fail($0) }
  }

  private func head(_ request: Request) -> [UInt8] {
    var head = "\(request.method) \(address.basePath)\(request.path) HTTP/1.1\r\n"
    head += "Host: \(address.authority)\r\nConnection: close\r\n"
    for (name, value) in request.headers { head += "\(name): \(value)\r\n" }
    if request.method != "GET" { head += "Content-Length: \(request.body.count)\r\n" }
    return Array((head + "\r\n").utf8)
  }
}

/// One request and its answer on one connection.
///
/// `@unchecked Sendable`: all mutable state is used only on the channel's event loop.
private final class ServiceExchange: ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let channel: any Channel
  private let request: [UInt8]
  private let promise: EventLoopPromise<HTTPAnswerReader>
  /// The pins to check and the time limit of the handshake. Nil if there is no TLS.
  private let handshake: (pins: ServicePins, timeout: TimeAmount)?
  private var handshakeTimer: Scheduled<Void>?
  private var reader: HTTPAnswerReader

  init(
    _ channel: any Channel, _ request: [UInt8], maximumAnswerBytes: Int,
    _ promise: EventLoopPromise<HTTPAnswerReader>,
    handshake: (pins: ServicePins, timeout: TimeAmount)?
  ) {
    self.channel = channel
    self.request = request
    self.promise = promise
    self.handshake = handshake
    reader = HTTPAnswerReader(
      maximumBodyBytes: maximumAnswerBytes + 1, keptBytes: maximumAnswerBytes + 1)
    // The connection ends with the exchange, even if the deadline ends it.
    promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
  }

  func channelActive(context: ChannelHandlerContext) {
    if let handshake {
      handshakeTimer = channel.eventLoop.scheduleTask(in: handshake.timeout) {
        self.promise.fail(NoAnswer.timeout)
      }
    } else {
      writeRequest()
    }
    context.fireChannelActive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted = event {
      handshakeTimer?.cancel()
      do {
        // The handler is in the pipeline if the channel has TLS.
        try handshake?.pins.check(
          try? context.channel.pipeline.syncOperations.nioSSL_peerCertificate())
        writeRequest()
      } catch {
        promise.fail(error)
      }
    }
    context.fireUserInboundEventTriggered(event)
  }

  private func writeRequest() {
    channel.writeAndFlush(ByteBuffer(bytes: request)).whenFailure { self.promise.fail($0) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    do {
      if case .finished = try reader.take(unwrapInboundIn(data).readableBytesView) {
        promise.succeed(reader)
      }
    } catch {
      promise.fail(error)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { promise.fail(error) }

  func channelInactive(context: ChannelHandlerContext) {
    handshakeTimer?.cancel()
    do {
      try reader.end()
      promise.succeed(reader)
    } catch {
      promise.fail(error)
    }
    context.fireChannelInactive()
  }
}
