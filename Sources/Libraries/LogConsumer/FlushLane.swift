import Foundation
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Stores the work of some partitions of a batch, with a connection of its own.
///
/// `@unchecked Sendable`: one thread at a time uses it. The flusher waits for that thread.
final class FlushLane<Writer: FlushWriter>: @unchecked Sendable {
  typealias Job = FlushJob<Writer.Cargo>

  struct Result: Sendable {
    var outcome: FlushOutcome
    /// Whether anything was stored. It is false if other processes own all partitions.
    var isStored = false
    /// The rows appended; nil if the answer to the commit was lost.
    var rows: Int?

    /// What both lanes did together. If one gave up, the session ends, and what the other one
    /// stored is where the next session begins.
    func joined(_ other: Result) -> Result {
      var both = Result(outcome: outcome, isStored: isStored || other.isStored)
      switch (outcome, other.outcome) {
      case (.gaveUp, _): break
      case (_, .gaveUp): both.outcome = other.outcome
      case (.stored(let mine), .stored(let theirs)):
        both.outcome = .stored(takenOver: mine.union(theirs))
        if let rows, let others = other.rows { both.rows = rows + others }
      }
      return both
    }
  }

  private let settings: ConsumerSettings
  private let owner: String
  private let metrics: ConsumerMetrics
  private let logger: Logger
  private let writer: Writer
  private let stop: StopSignal
  private let pulse: Heartbeat
  private let tell: @Sendable (String) -> Void
  private var kept: KeptConnection
  private var repeated = RepeatedCause()

  /// - Parameter tell: gets each problem of the database.
  init(
    settings: ConsumerSettings, owner: String, metrics: ConsumerMetrics, logger: Logger,
    writer: Writer, stop: StopSignal, pulse: Heartbeat, tell: @escaping @Sendable (String) -> Void
  ) {
    self.settings = settings
    self.owner = owner
    self.metrics = metrics
    self.logger = logger
    self.writer = writer
    self.stop = stop
    self.pulse = pulse
    self.tell = tell
    kept = KeptConnection(
      url: settings.databaseURL, application: "\(settings.group) flush", checksSchema: false)
  }

  /// Obeys a `FlushMachine` until it says that the flush is over.
  func store(_ job: Job, _ partitions: Set<Int32>, startedAt: Int) -> Result {
    var machine = FlushMachine(
      partitions: partitions, movesOffsets: job.batch != nil, startedAt: startedAt)
    var action = machine.start()
    var rows: Int? = 0
    var problem = ""
    while true {
      let lost = machine.takenOver.count
      pulse.beat()
      switch action {
      case .write(let partitions):
        action = attempt(&machine, &problem) { transaction, machine in
          rows = nil
          rows = try transaction.write(job, partitions)
          return machine.committed()
        }
      case .askFate(let partitions):
        action = attempt(&machine, &problem) { transaction, machine in
          machine.fate(try transaction.fate(of: job, partitions))
        }
      case .retry(let pause):
        Thread.sleep(forTimeInterval: Double(pause) / 1_000)
        action = machine.resumed()
      case .finish(let isStored):
        return Result(
          outcome: .stored(takenOver: machine.takenOver), isStored: isStored,
          rows: isStored ? rows : 0)
      case .giveUp:
        return Result(outcome: .gaveUp(problem))
      }
      tellTakenOver(machine.takenOver, butFirst: lost)
    }
  }

  /// Runs one step that needs the store. Every error becomes an event of the machine.
  private func attempt(
    _ machine: inout FlushMachine, _ problem: inout String,
    _ step: (FlushTransaction<Writer>, inout FlushMachine) throws -> FlushMachine.Action
  ) -> FlushMachine.Action {
    do {
      let transaction = FlushTransaction(
        connection: try kept.open(), settings: settings, owner: owner, writer: writer)
      return try step(transaction, &machine)
    } catch FlushStore.Refusal.takenOver(let partitions) {
      return machine.refused(Set(partitions))
    } catch {
      problem = "\(error)"
      return machine.failed(
        failed(error), at: Monotonic.milliseconds,
        patience: stop.isRaised ? 5_000 : settings.databasePatienceMilliseconds)
    }
  }

  private func failed(_ error: any Error) -> FlushMachine.Failure {
    let cause = Self.cause(error)
    metrics.flushFailures.increment()
    tell("\(cause.map { "\($0)" } ?? "\(error)")")
    if let times = repeated.note("\(error)") {
      logger.warning(
        "a flush failed and is tried again",
        metadata: ["error": "\(error)", "times": "\(times)"])
    }
    // After an error that is not the database's, the state of the connection is unknown.
    let isLost = cause?.isConnectionLost ?? true
    if isLost { kept.close() } else { kept.closeIfLost() }
    if isLost { return .connectionLost }
    return cause?.sqlState == SQLState.requeuedTwice ? .requeueRefused : .refusedByDatabase
  }

  private func tellTakenOver(_ takenOver: Set<Int32>, butFirst known: Int) {
    guard takenOver.count > known else { return }
    metrics.takeovers.increment(by: takenOver.count - known)
    logger.warning(
      "another process owns partitions now; their work is dropped",
      metadata: ["partitions": .array(takenOver.sorted().map { .stringConvertible($0) })])
  }

  private static func cause(_ error: any Error) -> PostgresError? {
    if case FlushStore.Refusal.database(let error) = error { return error }
    return error as? PostgresError
  }
}
