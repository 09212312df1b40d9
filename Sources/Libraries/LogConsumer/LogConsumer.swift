import Foundation
import KafkaTransport
package import Logging
import PostgresStore
import ServiceLifecycle
package import ServiceRuntime

/// Consumes one topic as a member of a group, with the consumer's thread, its flusher, and upkeep.
/// A `LogProcessor` decides what the records become.
///
/// Invariants. Breaking each of these has caused a bug:
/// - Start positions come from PostgreSQL when a partition is assigned, never from Kafka. Claiming
///   a partition there makes every other process's flush of it fail, even if its offset would still
///   fit.
/// - Before a rebalance is answered, the open batch is sealed and flushed. No batch ever mixes two
///   ownerships of a partition.
/// - A flush writes only partitions that are in its `progress`. Whatever a batch holds of other
///   partitions is dropped, because another process counts it.
/// - A rebalance is answered before anything that can fail. Kafka is asked about partitions on the
///   inspector's thread, and each partition is judged by itself, so that one without a leader holds
///   up no other.
/// - A client is closed and freed on a separate thread, and the wait for it is bounded.
/// - The consumer never pauses. While the database is unavailable it stops polling. After the
///   patience it leaves the group, and starts over when the database answers.
package final class LogConsumer<Processor: LogProcessor>: Service, @unchecked Sendable {
  // Everything that is not Sendable by itself is made and used on the consumer's thread only.
  private let settings: ConsumerSettings
  private let health: HealthState
  private let metrics: ConsumerMetrics
  private let logger: Logger
  private let makeWriter: @Sendable () -> Processor.Writer
  private let makeProcessor: @Sendable () -> Processor
  private let companions: @Sendable (StopSignal) -> [WorkerThread]
  private let farewell: Farewell
  private let stop = StopSignal()

  /// - Parameters:
  ///   - makeWriter, makeProcessor: called for each session, and start with nothing. An old
  ///     session's flusher may still be waiting for the database when the next session begins, so
  ///     each writer must have its own mutable state.
  ///   - companions: threads that work beside the consumer until the stop signal is raised.
  package init(
    settings: ConsumerSettings, health: HealthState, metrics: ConsumerMetrics, logger: Logger,
    makeWriter: @escaping @Sendable () -> Processor.Writer,
    makeProcessor: @escaping @Sendable () -> Processor,
    companions: @escaping @Sendable (StopSignal) -> [WorkerThread] = { _ in [] },
    farewell: Farewell = Farewell()
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.makeWriter = makeWriter
    self.makeProcessor = makeProcessor
    self.companions = companions
    self.farewell = farewell
    health.report(settings.healthName("consumer"), problem: "not started", logs: false)
  }

  package func run() async throws {
    let stop = self.stop
    let ended = await withGracefulShutdownHandler {
      await withTaskCancellationHandler {
        await withCheckedContinuation { (finished: CheckedContinuation<Bool, Never>) in
          _ = WorkerThread("consumer") { [self] in finished.resume(returning: work()) }
        }
      } onCancel: {
        stop.raise()
      }
    } onGracefulShutdown: {
      stop.raise()
    }
    if !ended {
      throw SessionProblem(
        description: """
          a session of \(settings.topic) could not be ended within \(Int(farewell.seconds)) s: the \
          Kafka client hangs while it leaves the group; the process ends, so that another can go on
          """)
    }
  }

  /// Runs one session after the other. A session ends when it cannot go on, and the next begins
  /// from what the store says.
  ///
  /// - Returns: false if a session could not be ended. Its client may still be a member of the
  ///   group and hold partitions, so only the end of the process helps.
  private func work() -> Bool {
    let housekeeping = LogUpkeep(
      settings: settings, health: health, logger: logger, stop: stop
    ).start()
    let companions = self.companions(stop)
    let pulse = health.heartbeat(settings.healthName("consumer"))
    defer { pulse.rest() }
    var pause = 200
    var hasEnded = true
    var repeated = RepeatedCause()
    while hasEnded, !stop.isRaised {
      let session = ConsumerSession<Processor>(
        settings: settings, health: health, metrics: metrics, logger: logger,
        processor: makeProcessor(), writer: makeWriter(), stop: stop,
        farewell: farewell, pulse: pulse)
      do {
        try session.prepare()
        health.report(settings.healthName("database"), problem: nil)
        try session.run()
        pause = 200
      } catch {
        health.report(settings.healthName("consumer"), problem: "\(error)", logs: false)
        if let times = repeated.note("\(error)") {
          logger.error(
            "the consumer starts over", metadata: ["error": "\(error)", "times": "\(times)"])
        }
        if session.madeProgress { pause = 200 }
      }
      pulse.beat()
      hasEnded = session.close()
      pulse.beat()
      if !hasEnded || stop.wait(milliseconds: pause) { break }
      pause = min(pause * 2, 2_000)
    }
    if !hasEnded { stop.raise() }
    health.report(settings.healthName("consumer"), problem: "stopping", logs: false)
    // They are joined together, because whoever stops the process waits 10 s for everything.
    // PostgreSQL rolls back what a thread leaves unfinished.
    let end = Monotonic.milliseconds + 3_000
    for thread in companions + [housekeeping] {
      _ = thread.join(seconds: Double(max(0, end - Monotonic.milliseconds)) / 1_000)
    }
    return hasEnded
  }
}

/// A reason for the operator to read.
struct SessionProblem: Error, CustomStringConvertible {
  let description: String
}
