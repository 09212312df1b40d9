import Metering
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import WebhookDelivery

/// Connections to endpoints. Each goes to the very address that was checked, whatever the name
/// resolves to by then, and TLS verifies the name.
///
/// This is our own client because every part of an answer is a stranger's choice: a precondition of
/// a general client ended the process at a status of 099. Bytes of answers go into
/// `HTTPAnswerReader`, which traps on no input, and into nothing else.
final class PinnedConnections: Sendable {
  struct Target: Hashable, Sendable {
    let isTLS: Bool
    /// What TLS verifies; nil where the URL's host is an address, which is verified then.
    let serverName: String?
    let address: IPAddress
    let port: Int
  }

  /// Shorter than most servers' own: a request on a connection that is just closing fails.
  static let idleSeconds: Int64 = 4

  private struct Idle {
    var connections: [Target: [WebhookConnection]] = [:]
    /// Of all targets, those that have ended by themselves included.
    var count = 0
  }

  private let idle = Mutex(Idle())
  private let maximumIdle: Int
  private let group: MultiThreadedEventLoopGroup
  private let tls: Result<NIOSSLContext, any Error>
  private let connectTimeout: TimeAmount

  init(
    group: MultiThreadedEventLoopGroup, tls: TLSConfiguration, timeoutMilliseconds: Int,
    maximumIdle: Int
  ) {
    self.group = group
    self.maximumIdle = maximumIdle
    self.tls = Result { try NIOSSLContext(configuration: tls) }
    connectTimeout = .milliseconds(Int64(timeoutMilliseconds))
  }

  /// Sends `request` and reads its answer.
  ///
  /// - Parameters:
  ///   - request: the whole of it, head and body.
  ///   - onAnswer: called with what is known of the answer whenever more has come.
  /// - Throws: `ConnectFailure` before there is a connection; behind that what went wrong with it.
  func exchange(
    _ target: Target, request: [UInt8], onAnswer: @escaping @Sendable (HTTPAnswerReader) -> Void
  ) async throws {
    if let kept = takeIdle(target) {
      do {
        return try await post(kept, target, request, onAnswer)
      } catch is WebhookConnection.ClosedBeforeUse {
        // The other side closed it while it was idle, before it had read anything.
      }
    }
    try await post(try await connect(target), target, request, onAnswer)
  }

  private func post(
    _ connection: WebhookConnection, _ target: Target, _ request: [UInt8],
    _ onAnswer: @escaping @Sendable (HTTPAnswerReader) -> Void
  ) async throws {
    let isReusable = try await withTaskCancellationHandler {
      try await connection.send(request, onAnswer)
    } onCancel: {
      connection.cut()
    }
    if isReusable { keep(connection, target) }
  }

  private func connect(_ target: Target) async throws -> WebhookConnection {
    let made = Mutex<(connection: WebhookConnection?, isCut: Bool)>((nil, false))
    let bootstrap = ClientBootstrap(group: group)
      .connectTimeout(connectTimeout)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelInitializer { [tls] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if target.isTLS {
            try pipeline.addHandler(
              NIOSSLClientHandler(context: tls.get(), serverHostname: target.serverName))
          }
          let connection = WebhookConnection(channel)
          try pipeline.addHandler(connection)
          let isCut = made.withLock { made in
            made.connection = connection
            return made.isCut
          }
          if isCut { throw CancellationError() }
        }
      }
    do {
      let address = try SocketAddress(ipAddress: "\(target.address)", port: target.port)
      _ = try await withTaskCancellationHandler {
        try await bootstrap.connect(to: address).get()
      } onCancel: {
        let connection = made.withLock { made in
          made.isCut = true
          return made.connection
        }
        connection?.cut()
      }
    } catch {
      throw ConnectFailure(cause: error)
    }
    guard let connection = made.withLock({ $0.connection }) else {
      throw ConnectFailure(cause: ChannelError.ioOnClosedChannel)
    }
    return connection
  }

  private func takeIdle(_ target: Target) -> WebhookConnection? {
    idle.withLock { idle in
      while let connection = idle.connections[target]?.popLast() {
        idle.count -= 1
        if idle.connections[target]?.isEmpty == true { idle.connections[target] = nil }
        if connection.isOpen { return connection }
      }
      return nil
    }
  }

  private func keep(_ connection: WebhookConnection, _ target: Target) {
    let isKept = idle.withLock { idle in
      guard idle.count < maximumIdle else { return false }
      idle.connections[target, default: []].append(connection)
      idle.count += 1
      return true
    }
    if !isKept { connection.cut() }
  }

  /// Forgets connections that have ended meanwhile; called now and then. Each ends by itself when it
  /// has been idle for `idleSeconds`.
  func forgetClosed() {
    idle.withLock { idle in
      let open = idle.connections.mapValues { $0.filter(\.isOpen) }.filter { !$0.value.isEmpty }
      idle.connections = open
      idle.count = open.values.reduce(0) { $0 + $1.count }
    }
  }

  func closeAll() {
    let all = idle.withLock { idle in
      defer { idle = Idle() }
      return idle.connections.values.flatMap { $0 }
    }
    for connection in all { connection.cut() }
  }
}

/// There was no connection: nothing of the request was sent.
struct ConnectFailure: Error {
  let cause: any Error
}

/// One connection, which carries one request at a time.
///
/// `@unchecked Sendable`: what changes is touched on the channel's event loop alone; every method
/// that others call goes there first.
final class WebhookConnection: ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// A connection that had been used before was found closed; the request can be sent on another.
  struct ClosedBeforeUse: Error {}

  private struct Exchange {
    let promise: EventLoopPromise<Bool>
    let onAnswer: @Sendable (HTTPAnswerReader) -> Void
    var reader = HTTPAnswerReader()
    var hasHeard = false
  }

  private let channel: any Channel
  private var exchange: Exchange?
  private var uses = 0
  private var isOver = false
  private var failure: (any Error)?
  private var idleTimer: Scheduled<Void>?

  init(_ channel: any Channel) { self.channel = channel }

  var isOpen: Bool { channel.isActive }

  /// Whether the connection can be used for another request. It throws what went wrong, unless the
  /// answer's status had been read by then.
  func send(
    _ request: [UInt8], _ onAnswer: @escaping @Sendable (HTTPAnswerReader) -> Void
  ) async throws -> Bool {
    let promise = channel.eventLoop.makePromise(of: Bool.self)
    channel.eventLoop.execute {
      self.begin(request, Exchange(promise: promise, onAnswer: onAnswer))
    }
    return try await promise.futureResult.get()
  }

  /// Ends it now, whatever is under way.
  func cut() {
    channel.eventLoop.execute { self.end(CancellationError()) }
  }

  private func begin(_ request: [UInt8], _ next: Exchange) {
    idleTimer?.cancel()
    idleTimer = nil
    guard !isOver, exchange == nil, channel.isActive else {
      let isReused = uses > 0
      next.promise.fail(
        isReused ? ClosedBeforeUse() : failure ?? HTTPAnswerReader.Malformed.endedEarly)
      return
    }
    uses += 1
    exchange = next
    channel.writeAndFlush(ByteBuffer(bytes: request)).whenFailure { error in self.end(error) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard var current = exchange else { return end(HTTPAnswerReader.Malformed.notHTTP) }
    current.hasHeard = true
    do {
      let progress = try current.reader.take(unwrapInboundIn(data).readableBytesView)
      exchange = current
      if current.reader.status != nil { current.onAnswer(current.reader) }
      if case .finished(let isReusable) = progress { finish(isReusable) }
    } catch {
      end(error)
    }
  }

  private func finish(_ isReusable: Bool) {
    guard let done = exchange else { return }
    exchange = nil
    if isReusable {
      idleTimer = channel.eventLoop.scheduleTask(in: .seconds(PinnedConnections.idleSeconds)) {
        self.end(CancellationError())
      }
    } else {
      isOver = true
      channel.close(promise: nil)
    }
    done.promise.succeed(isReusable)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { end(error) }

  func channelInactive(context: ChannelHandlerContext) {
    let wasReused = uses > 1 && exchange?.hasHeard == false
    end(wasReused ? ClosedBeforeUse() : HTTPAnswerReader.Malformed.endedEarly)
    context.fireChannelInactive()
  }

  /// What is under way ends: as an answer where its status is known, else with the error.
  private func end(_ error: any Error) {
    if failure == nil, !(error is CancellationError) { failure = error }
    idleTimer?.cancel()
    idleTimer = nil
    // Before the close, which calls `channelInactive` and so this function again.
    let current = exchange
    exchange = nil
    if !isOver {
      isOver = true
      channel.close(promise: nil)
    }
    guard let ended = current else { return }
    if ended.reader.status != nil, !(error is CancellationError) {
      ended.promise.succeed(false)
    } else if uses > 1, !ended.hasHeard, error is IOError || error is ChannelError {
      ended.promise.fail(ClosedBeforeUse())
    } else {
      ended.promise.fail(error)
    }
  }
}
