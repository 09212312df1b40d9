import EventCodec
import Foundation
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import Synchronization
import UsageAggregation

/// One thread that stores one batch at a time, while the consumer's thread fills the next.
final class Flusher<Writer: FlushWriter>: @unchecked Sendable {
  typealias Job = FlushJob<Writer.Cargo>

  // All mutable state below `condition` is used with its lock held. The rest belongs to the
  // flusher's thread.
  private let condition = MonotonicCondition()
  private var job: Job?
  private var outcome: (Job, FlushOutcome)?
  private var isClosed = false

  private let settings: ConsumerSettings
  private let owner: String
  private let metrics: ConsumerMetrics
  private let health: HealthState
  private let logger: Logger
  private let writer: Writer
  private let stop: StopSignal
  private let pulse: Heartbeat
  private var thread: WorkerThread?
  private var kept: KeptConnection
  /// Used by the flusher's thread alone.
  private var repeated = RepeatedCause()

  init(
    settings: ConsumerSettings, owner: String, metrics: ConsumerMetrics, health: HealthState,
    logger: Logger, writer: Writer, stop: StopSignal
  ) {
    self.settings = settings
    self.owner = owner
    self.metrics = metrics
    self.health = health
    self.logger = logger
    self.writer = writer
    self.stop = stop
    pulse = health.heartbeat(settings.healthName("flusher"))
    kept = KeptConnection(
      url: settings.databaseURL, application: "\(settings.group) flush", checksSchema: false)
  }

  func start() { thread = WorkerThread("flusher") { [self] in run() } }

  /// Ends the thread once its job is done.
  func close(seconds: Double) {
    condition.lock()
    isClosed = true
    condition.broadcast()
    condition.unlock()
    _ = thread?.join(seconds: seconds)
  }

  // MARK: The consumer's side

  /// - Precondition: `take` has returned the result of the previous job.
  func submit(_ job: Job) {
    condition.lock()
    precondition(self.job == nil && outcome == nil, "one flush at a time")
    self.job = job
    condition.broadcast()
    condition.unlock()
  }

  /// Returns the result of the submitted job; nil if there is none within the time.
  func take(waitMilliseconds: Int) -> (Job, FlushOutcome)? {
    condition.lock()
    defer { condition.unlock() }
    let end = Monotonic.milliseconds + waitMilliseconds
    while outcome == nil, waitMilliseconds > 0, condition.wait(until: end) {}
    defer { outcome = nil }
    return outcome
  }

  // MARK: The thread

  private func run() {
    defer { pulse.rest() }
    while true {
      pulse.rest()
      condition.lock()
      while job == nil, !isClosed { condition.wait() }
      guard let job else {
        condition.unlock()
        return
      }
      condition.unlock()
      pulse.beat()
      let result = store(job)
      condition.lock()
      self.job = nil
      outcome = (job, result)
      condition.broadcast()
      condition.unlock()
    }
  }

  /// Obeys a `FlushMachine` until it says that the flush is over.
  private func store(_ job: Job) -> FlushOutcome {
    let started = Monotonic.milliseconds
    writer.waitForRoom(stop)
    var machine = FlushMachine(
      partitions: Set(job.epochs.keys), movesOffsets: job.batch != nil, startedAt: started)
    var action = machine.start()
    var rows: Int?
    var problem = ""
    while true {
      let lost = machine.takenOver.count
      pulse.beat()
      switch action {
      case .write(let partitions):
        action = attempt(&machine, &problem) { transaction, machine in
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
        health.report(settings.healthName("database"), problem: nil)
        if isStored { finish(job, started, rows: rows) }
        return .stored(takenOver: machine.takenOver)
      case .giveUp:
        return .gaveUp(problem)
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

  /// Reports a problem of the database, unless the session is over. By then the next session has
  /// reported that all is well, and it would not take back a later report.
  private func tell(_ problem: String) {
    condition.lock()
    defer { condition.unlock() }
    if !isClosed { health.report(settings.healthName("database"), problem: problem) }
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

  private func finish(_ job: Job, _ started: Int, rows: Int?) {
    health.report(settings.healthName("database"), problem: nil)
    writer.stored(job.cargo, job.batch, rows: rows)
    guard let batch = job.batch else { return }
    metrics.flushSeconds.observe(Double(Monotonic.milliseconds - started) / 1_000)
    if let oldest = batch.counters.oldestTimestamp, oldest >= 0 {
      let now = Date().timeIntervalSince1970
      metrics.visibleSeconds.observe(max(0, now - Double(oldest) / 1_000))
    }
    metrics.records.increment(by: batch.counters.records)
    metrics.bytes.increment(by: batch.counters.bytes)
    metrics.counted.increment(by: batch.counters.counted)
    metrics.duplicates.increment(by: batch.counters.duplicates)
    for letter in batch.deadLetters { metrics.deadLetter(letter.reason) }
    metrics.flushRows.increment(by: rows ?? batch.table.groupCount)
  }
}
