import Metering
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import WebhookDelivery

/// Connections to endpoints. Each goes to exactly the address that was checked, even if the name
/// resolves to another one by then. TLS verifies the name.
///
/// This is our own client, because strangers choose every part of an answer: a precondition in a
/// general client ended the process at a status of 099. The bytes of answers go only into
/// `HTTPAnswerReader`, which traps on no input.
final class PinnedConnections: Sendable {
  struct Target: Hashable, Sendable {
    let isTLS: Bool
    /// The name that TLS verifies. It is nil if the URL's host is an address; TLS verifies that
    /// instead.
    let serverName: String?
    let address: IPAddress
    let port: Int
  }

  /// Shorter than the idle time of most servers, because a request fails on a connection that is
  /// just closing.
  static let idleSeconds: Int64 = 4

  private struct Idle {
    var connections: [Target: [WebhookConnection]] = [:]
    /// The connections of all targets, including those that have ended by themselves.
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
  ///   - request: head and body.
  ///   - onAnswer: called whenever more of the answer has arrived, with what is known of it.
  /// - Throws: `ConnectFailure` if no connection was made; otherwise the error on the connection.
  func exchange(
    _ target: Target, request: [UInt8], onAnswer: @escaping @Sendable (HTTPAnswerReader) -> Void
  ) async throws {
    if let kept = takeIdle(target) {
      do {
        return try await post(kept, target, request, onAnswer)
      } catch is WebhookConnection.ClosedBeforeUse {
        // The other side closed the connection while it was idle, before it had read anything.
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

  /// Forgets connections that have ended. Each connection ends by itself after `idleSeconds`
  /// without a request.
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

/// No connection was made, so nothing of the request was sent.
struct ConnectFailure: Error {
  let cause: any Error
}

/// One connection, which carries one request at a time.
///
/// `@unchecked Sendable`: only the channel's event loop touches the mutable state, and every method
/// that others call first hops there.
final class WebhookConnection: ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// A connection that had been used before turned out to be closed. The request can be sent on
  /// another one.
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

  /// - Returns: whether the connection can be used for another request.
  /// - Throws: the error on the connection, unless it came after the answer's status.
  func send(
    _ request: [UInt8], _ onAnswer: @escaping @Sendable (HTTPAnswerReader) -> Void
  ) async throws -> Bool {
    let promise = channel.eventLoop.makePromise(of: Bool.self)
    channel.eventLoop.execute {
      self.begin(request, Exchange(promise: promise, onAnswer: onAnswer))
    }
    return try await promise.futureResult.get()
  }

  /// Ends the connection now, even if a request is in progress.
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

  /// Ends the current exchange: as an answer if its status is known, otherwise with the error.
  private func end(_ error: any Error) {
    if failure == nil, !(error is CancellationError) { failure = error }
    idleTimer?.cancel()
    idleTimer = nil
    // Cleared before the close, because that calls `channelInactive` and so this function again.
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
