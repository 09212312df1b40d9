import Dispatch
package import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// The admin address of a service. It has no authentication and belongs on an internal network.
///
/// - `GET /health/live`: see `HealthState.liveJSON()`.
/// - `GET /health/ready`: see `HealthState.json()`.
/// - `GET /metrics`: Prometheus text 0.0.4.
///
/// `HEAD` works as well. Another path is 404 and another method 405 (with `Allow`), as RFC 9457
/// `application/problem+json`. Graceful shutdown lets answers in progress finish.
///
/// Strangers can neither keep it from answering nor make it grow:
/// - A connection carries one request, ends with its answer, and lasts at most 10 s.
/// - At most 64 connections are open, or fewer if the process may open few descriptors. A further
///   one takes the place of the oldest.
/// - A head has at most 8 KiB, and nothing of a body is kept.
/// - The server has its own event loop, and makes answers one at a time on its own queue. Other
///   work of the service does not delay them, and they use at most one core.
package struct AdminServer: Service {
  static let connectionSeconds: Int64 = 10
  private static let standstillSeconds: Int64 = 5

  private let bind: BindAddress
  private let health: HealthState
  private let answers: AdminAnswers
  private let logger: Logger
  private let onBound: @Sendable (Int) -> Void

  /// - Parameter onBound: called once with the port, when connections are accepted. If `bind.port`
  ///   is 0, the system has chosen the port.
  package init(
    bind: BindAddress, health: HealthState, metrics: MetricsRegistry, logger: Logger,
    onBound: @escaping @Sendable (_ port: Int) -> Void = { _ in }
  ) {
    self.bind = bind
    self.health = health
    self.answers = AdminAnswers(health: health, metrics: metrics)
    self.logger = logger
    self.onBound = onBound
    Self.register(health, on: metrics)
  }

  /// Registers the answer of `/health/ready` as metrics for alerts, because Prometheus sees no
  /// reasons.
  private static func register(_ health: HealthState, on metrics: MetricsRegistry) {
    let ready = metrics.gauge(
      "meter_ready", help: "1 while /health/ready answers 200, else 0.")
    let degraded = metrics.gauge(
      "meter_degraded", help: "1 while the service does its job with less than it should have.")
    let standstills = metrics.gauge(
      "meter_threads_standing_still",
      help: "Threads that have not moved for longer than they may (METER_THREAD_PATIENCE).")
    metrics.onScrape {
      ready.set(health.isReady ? 1 : 0)
      degraded.set(health.isDegraded ? 1 : 0)
      standstills.set(health.standstillCount)
      for silence in health.silences {
        metrics.gauge(
          "meter_thread_silent_seconds",
          help: "The time since a thread's last sign of life. It is 0 while it waits for work.",
          labels: [("thread", silence.thread)]
        ).set(Double(silence.milliseconds) / 1_000)
      }
    }
  }

  /// Serves until graceful shutdown or cancellation.
  /// - Throws: `ListenError` if the address cannot be bound.
  package func run() async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let connections = AdminConnections(
      maximum: DescriptorBudget.current().adminConnections)
    let listener: any Channel
    do {
      listener = try await listen(group, connections)
    } catch {
      try await group.shutdownGracefully()
      throw ListenError(address: bind, underlying: error)
    }
    let port = listener.localAddress?.port ?? bind.port
    logger.info(
      "admin server listening",
      metadata: ["address": "\(BindAddress(host: bind.host, port: port))"])
    onBound(port)
    // This runs on the server's own loop, which no other part of the service delays.
    let watch = group.next().scheduleRepeatedTask(
      initialDelay: .seconds(Self.standstillSeconds), delay: .seconds(Self.standstillSeconds)
    ) { [health] _ in health.logStandstills() }
    await withTaskCancellationHandler {
      await withGracefulShutdownHandler {
        // Serving is over, however the listener has ended.
        try? await listener.closeFuture.get()
      } onGracefulShutdown: {
        listener.close(promise: nil)
      }
    } onCancel: {
      listener.close(promise: nil)
    }
    // A loop that has been shut down takes no task, and this is one.
    watch.cancel()
    await connections.drain()
    try await group.shutdownGracefully()
  }

  private func listen(
    _ group: MultiThreadedEventLoopGroup, _ connections: AdminConnections
  ) async throws -> any Channel {
    let queue = DispatchQueue(label: "license-metering.admin")
    return try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 256)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { [answers] channel in
        channel.eventLoop.makeCompletedFuture {
          connections.admit(channel)
          try channel.pipeline.syncOperations.addHandler(
            AdminConnection(channel: channel, answers: answers, queue: queue))
        }
      }.bind(host: bind.host, port: bind.port).get()
  }
}

/// A server could not bind its address. `description` is one line with the address and the cause.
package struct ListenError: Error, CustomStringConvertible {
  package let description: String

  package init(address: BindAddress, underlying: any Error) {
    // SwiftNIO's text begins with the name of its own function and has an unpaired parenthesis:
    // "bind(descriptor:ptr:bytes:): Address already in use) (errno: 98)".
    var cause = "\(underlying)"
    if let end = cause.firstRange(of: "): ")?.upperBound { cause = String(cause[end...]) }
    cause = cause.replacing(") (errno", with: " (errno")
    description = LineText.singleLine("cannot listen on \(address): \(cause)")
  }
}
