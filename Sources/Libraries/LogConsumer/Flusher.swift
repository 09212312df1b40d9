import EventCodec
import Foundation
import Logging
import Metering
import ServiceRuntime
import UsageAggregation

/// One thread that stores one batch at a time, while the consumer's thread fills the next.
///
/// A large batch is stored by two lanes at the same time, each with half of the partitions. Most of
/// a flush is work of PostgreSQL's process, and a connection has one process. Partitions do not
/// depend on each other, so a half that is stored alone is like a batch of its own.
final class Flusher<Writer: FlushWriter>: @unchecked Sendable {
  typealias Job = FlushJob<Writer.Cargo>

  // All mutable state below `condition` is used with its lock held. The rest belongs to the
  // flusher's thread.
  private let condition = MonotonicCondition()
  private var job: Job?
  private var outcome: (Job, FlushOutcome)?
  private var isClosed = false

  private let settings: ConsumerSettings
  private let metrics: ConsumerMetrics
  private let health: HealthState
  private let writer: Writer
  private let stop: StopSignal
  private let pulse: Heartbeat
  private var lanes: [FlushLane<Writer>] = []
  private var thread: WorkerThread?

  init(
    settings: ConsumerSettings, owner: String, metrics: ConsumerMetrics, health: HealthState,
    logger: Logger, writer: Writer, stop: StopSignal
  ) {
    self.settings = settings
    self.metrics = metrics
    self.health = health
    self.writer = writer
    self.stop = stop
    pulse = health.heartbeat(settings.healthName("flusher"))
    lanes = (0..<Self.laneCount).map { _ in
      FlushLane(
        settings: settings, owner: owner, metrics: metrics, logger: logger, writer: writer,
        stop: stop, pulse: pulse, tell: { [weak self] in self?.tell($0) })
    }
  }

  private static var laneCount: Int { 2 }

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

  private func store(_ job: Job) -> FlushOutcome {
    let started = Monotonic.milliseconds
    writer.waitForRoom(stop)
    let shares = shares(of: job)
    // The second lane works on a thread of its own.
    let other = Other()
    let thread =
      shares.count < 2
      ? nil
      : WorkerThread("flusher lane") { [lanes] in
        other.result = lanes[1].store(job, shares[1], startedAt: started)
      }
    var result = lanes[0].store(job, shares[0], startedAt: started)
    if let thread {
      thread.join()
      if let second = other.result { result = result.joined(second) }
    }
    if case .stored = result.outcome {
      health.report(settings.healthName("database"), problem: nil)
      if result.isStored { finish(job, started, rows: result.rows) }
    }
    return result.outcome
  }

  /// Filled by the second lane's thread, and read when that has ended.
  private final class Other: @unchecked Sendable {
    var result: FlushLane<Writer>.Result?
  }

  /// The partitions that each lane stores.
  private func shares(of job: Job) -> [Set<Int32>] {
    let partitions = job.epochs.keys.sorted()
    guard let batch = job.batch, partitions.count > 1, writer.canDivide(batch) else {
      return [Set(partitions)]
    }
    let half = partitions.count / 2
    return [Set(partitions[..<half]), Set(partitions[half...])]
  }

  /// Reports a problem of the database, unless the session is over. By then the next session has
  /// reported that all is well, and it would not take back a later report.
  private func tell(_ problem: String) {
    condition.lock()
    defer { condition.unlock() }
    if !isClosed { health.report(settings.healthName("database"), problem: problem) }
  }

  private func finish(_ job: Job, _ started: Int, rows: Int?) {
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
