import Foundation
import KafkaTransport
package import Logging
import PostgresStore
import ServiceLifecycle
package import ServiceRuntime

/// Consumes one topic as a member of a group: the consumer's thread, its flusher, and housekeeping. What becomes of the records is a `LogProcessor`'s.
///
/// What must hold, each of which has bitten somebody:
/// - Start positions come from PostgreSQL when a partition is assigned, never from Kafka. Claiming a partition there makes every other process's
///   flush of it fail, even if its offset would still fit.
/// - Before a rebalance is answered, the open batch is sealed and flushed: no batch ever mixes two ownerships of a partition.
/// - A flush writes only partitions that are in its `progress`; what a batch holds of others is dropped, since somebody else counts it.
/// - The consumer never pauses. While the database is away it stops polling; after the patience it leaves the group and
///   starts over when the database answers.
package final class LogConsumer<Processor: LogProcessor>: Service, @unchecked Sendable {
  // What is not Sendable by itself is made and used on the consumer's thread alone.
  private let settings: ConsumerSettings
  private let health: HealthState
  private let metrics: ConsumerMetrics
  private let logger: Logger
  private let makeWriter: @Sendable () -> Processor.Writer
  private let makeProcessor: @Sendable () -> Processor
  private let companions: @Sendable (StopSignal) -> [WorkerThread]
  private let stop = StopSignal()

  /// - Parameters:
  ///   - makeWriter, makeProcessor: called for each session: they begin with nothing. An old session's flusher may still be waiting for the
  ///     database when the next session's begins, so that what a writer changes must be its own.
  ///   - companions: threads that work beside the consumer until the stop signal is raised.
  package init(
    settings: ConsumerSettings, health: HealthState, metrics: ConsumerMetrics, logger: Logger,
    makeWriter: @escaping @Sendable () -> Processor.Writer,
    makeProcessor: @escaping @Sendable () -> Processor,
    companions: @escaping @Sendable (StopSignal) -> [WorkerThread] = { _ in [] }
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.makeWriter = makeWriter
    self.makeProcessor = makeProcessor
    self.companions = companions
    health.report(settings.healthName("consumer"), problem: "not started")
  }

  package func run() async throws {
    let stop = self.stop
    await withGracefulShutdownHandler {
      await withTaskCancellationHandler {
        await withCheckedContinuation { (finished: CheckedContinuation<Void, Never>) in
          _ = WorkerThread("consumer") { [self] in
            work()
            finished.resume()
          }
        }
      } onCancel: {
        stop.raise()
      }
    } onGracefulShutdown: {
      stop.raise()
    }
  }

  /// One session after the other: a session ends when it cannot go on, and the next begins from what the store says.
  private func work() {
    let housekeeping = Housekeeping(
      settings: settings, health: health, logger: logger, stop: stop
    ).start()
    let companions = self.companions(stop)
    var pause = 200
    while !stop.isRaised {
      let session = ConsumerSession<Processor>(
        settings: settings, health: health, metrics: metrics, logger: logger,
        processor: makeProcessor(), writer: makeWriter(), stop: stop)
      do {
        try session.prepare()
        health.report(settings.healthName("database"), problem: nil)
        try session.run()
        pause = 200
      } catch {
        health.report(settings.healthName("consumer"), problem: "\(error)")
        logger.error("the consumer starts over", metadata: ["error": "\(error)"])
        if session.madeProgress { pause = 200 }
      }
      session.close()
      if stop.wait(milliseconds: pause) { break }
      pause = min(pause * 2, 2_000)
    }
    health.report(settings.healthName("consumer"), problem: "stopping")
    // Together: whoever stops the process waits 10 s for all of it. What a thread leaves undone, PostgreSQL takes back.
    let end = Monotonic.milliseconds + 3_000
    for thread in companions + [housekeeping] {
      _ = thread.join(seconds: Double(max(0, end - Monotonic.milliseconds)) / 1_000)
    }
  }
}

/// A reason that the operator should read.
struct SessionProblem: Error, CustomStringConvertible {
  let description: String
}
