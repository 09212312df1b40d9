import Foundation
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
  /// Nil: plain HTTP.
  let tls: NIOSSLContext?
  /// How long a request may take to come in, in milliseconds.
  let requestMilliseconds: Int
  let logger: Logger

  private static let idleLimit = TimeAmount.seconds(75)
  /// Of requests that are not answered yet: four thousand of the largest that are validations.
  private static let bodyBytes = 256 << 20

  /// The listener's socket was closed under it.
  struct Closed: Error, CustomStringConvertible {
    let description = "the API's listener was closed"
  }

  func run() async throws {
    Self.raiseDescriptorLimit()
    let group = MultiThreadedEventLoopGroup.singleton
    let quiescing = ServerQuiescingHelper(group: group)
    let listener: any Channel
    do {
      listener = try await bootstrap(group, quiescing).bind(host: bind.host, port: bind.port).get()
    } catch {
      throw ListenError(address: bind, underlying: error)
    }
    let address = ServiceRuntime.BindAddress(
      host: bind.host, port: listener.localAddress?.port ?? bind.port)
    logger.info("listening", metadata: ["address": "\(address)"])
    let isStopping = Atomic<Bool>(false)
    let stopped = group.any().makePromise(of: Void.self)
    await withTaskCancellationOrGracefulShutdownHandler {
      // It only succeeds.
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

  private func bootstrap(
    _ group: some EventLoopGroup, _ quiescing: ServerQuiescingHelper
  ) -> ServerBootstrap {
    let memory = BodyMemory(limit: Self.bodyBytes)
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = 8_192
    limits.maxHeaderListSize = 16_384
    limits.maxHeaderFieldCount = 100
    return ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 4_096)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(
            quiescing.makeServerChannelHandler(channel: channel))
        }
      }
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { [api, tls, requestMilliseconds, limits] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
          try pipeline.addHandlers(
            ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits)),
            RequestDeadline(
              limit: .milliseconds(Int64(requestMilliseconds)), idleLimit: Self.idleLimit,
              isTLS: tls != nil),
            Connection(api: api, memory: memory))
        }
      }
  }

  /// A connection takes a descriptor, and the usual limit of 1,024 is meant for programs that use select().
  private static func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, 1_048_576)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }
}
