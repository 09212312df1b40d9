import Foundation
import HTTPListening
import Logging
import NIOCore
import NIOExtras
import NIOHTTP1
import NIOPosix
import NIOSSL
import ServiceLifecycle
import ServiceRuntime
import Synchronization

/// The API's listener.
struct ValidationServer: Service {
  let bind: ServiceRuntime.BindAddress
  let api: ValidationAPI
  /// If it is nil, the server speaks plain HTTP.
  let tls: NIOSSLContext?
  /// How long a client may take to send a request, in milliseconds.
  let requestMilliseconds: Int
  /// The most connections of one address; nil for half of all.
  let connectionsPerAddress: Int?
  let metrics: MetricsRegistry
  let logger: Logger

  private static let idleLimit = TimeAmount.seconds(75)
  /// The memory for bodies that are not answered yet. It holds four thousand of the largest
  /// validation requests.
  private static let bodyBytes = 256 << 20
  /// How much of it one client may use.
  private static let bodyBytesPerClient = 32 << 20
  /// With fewer connections than this, the service is of no use.
  private static let fewestConnections = 8

  /// Something else closed the listener's socket.
  struct Closed: Error, CustomStringConvertible {
    let description = "the API's listener was closed"
  }

  func run() async throws {
    let group = MultiThreadedEventLoopGroup.singleton
    let table = try makeTable()
    let quiescing = ServerQuiescingHelper(group: group)
    let listener: any Channel
    do {
      listener = try await bootstrap(group, quiescing, table).bind(host: bind.host, port: bind.port)
        .get()
    } catch {
      throw ListenError(address: bind, underlying: error)
    }
    let address = ServiceRuntime.BindAddress(
      host: bind.host, port: listener.localAddress?.port ?? bind.port)
    logger.info(
      "listening",
      metadata: ["address": "\(address)", "connections": "\(table.maximum)"])
    let isStopping = Atomic<Bool>(false)
    let stopped = group.any().makePromise(of: Void.self)
    await withTaskCancellationOrGracefulShutdownHandler {
      // This future never fails.
      try? await listener.closeFuture.get()
    } onCancelOrGracefulShutdown: {
      if !isStopping.exchange(true, ordering: .relaxed) {
        quiescing.initiateShutdown(promise: stopped)
      }
    }
    guard isStopping.load(ordering: .relaxed) else {
      stopped.fail(Closed())
      throw Closed()
    }
    try await stopped.futureResult.get()
  }

  /// Makes a table for as many connections as there are descriptors.
  private func makeTable() throws -> ConnectionTable {
    let budget = DescriptorBudget.current()
    guard budget.apiConnections >= Self.fewestConnections else {
      throw ConfigurationError(
        "the process may open only \(budget.limit) files, which leaves none for connections; "
          + "raise the limit (ulimit -n) to 1024 or more")
    }
    let table = ConnectionTable(
      descriptors: budget.apiConnections, share: connectionsPerAddress)
    ConnectionMetrics.register(table, on: metrics)
    return table
  }

  private func bootstrap(
    _ group: some EventLoopGroup, _ quiescing: ServerQuiescingHelper, _ table: ConnectionTable
  ) -> ServerBootstrap {
    let memory = BodyMemory(limit: Self.bodyBytes, share: Self.bodyBytesPerClient)
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = 8_192
    limits.maxHeaderListSize = 16_384
    limits.maxHeaderFieldCount = 100
    return ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 4_096)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers(
            AcceptLimit(table: table), quiescing.makeServerChannelHandler(channel: channel))
        }
      }
      // Connections are accepted one at a time, so that there are never more than there is room
      // for.
      .serverChannelOption(.maxMessagesPerRead, value: 1)
      // A connection that is no longer read holds what one read returns. That much is also answered
      // before other connections have their turn.
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(
        .recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 2_048, maximum: 4_096)
      )
      .childChannelOption(
        .writeBufferWaterMark, value: .init(low: 8_192, high: 32_768)
      )
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      // By default, the kernel keeps megabytes of what the client does not read.
      .childChannelOption(.socketOption(.so_sndbuf), value: 131_072)
      .childChannelOption(.socketOption(.so_rcvbuf), value: 262_144)
      .childChannelInitializer { [api, tls, requestMilliseconds, limits] channel in
        channel.eventLoop.makeCompletedFuture {
          let client = api.client(channel.remoteAddress)
          let entry = try table.admit(channel, client.isTrustedProxy ? nil : client.group)
          channel.closeFuture.whenComplete { _ in table.leave(entry) }
          let connection = HTTPConnectionHandler(api: api, memory: memory, entry: entry)
          let pipeline = channel.pipeline.syncOperations
          if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
          try pipeline.addHandlers(
            connection.makeGate(),
            ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits)),
            RequestDeadline(
              limit: .milliseconds(Int64(requestMilliseconds)), idleLimit: Self.idleLimit,
              isTLS: tls != nil),
            connection)
        }
      }
  }
}
