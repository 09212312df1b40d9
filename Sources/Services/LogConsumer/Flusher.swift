import EventCodec
import Foundation
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import Synchronization
import UsageAggregation

/// A batch, or cargo alone, on its way into the store.
///
/// `@unchecked Sendable`: it is handed from the consumer's thread to the flusher's through a locked mailbox and back; only one of them touches it at a time.
final class FlushJob<Cargo: Sendable>: @unchecked Sendable {
  let cargo: Cargo
  /// Nil: no offset moves.
  let batch: LogBatch?
  /// The epoch of each partition that is written.
  let epochs: [Int32: Int32]

  init(cargo: Cargo, batch: LogBatch?, epochs: [Int32: Int32]) {
    self.cargo = cargo
    self.batch = batch
    self.epochs = epochs
  }
}

enum FlushOutcome {
  /// Stored, but for partitions that other processes own now.
  case stored(takenOver: Set<Int32>)
  /// The database did not take it within the patience; nothing of it is stored.
  case gaveUp(String)
}

private enum FlushFate {
  case stored
  case notStored(lost: Set<Int32>)
}

/// One thread that stores one batch at a time, while the consumer's thread fills the next.
final class Flusher<Writer: FlushWriter>: @unchecked Sendable {
  typealias Job = FlushJob<Writer.Cargo>

  // All mutable state below `condition` is used with its lock held; the rest belongs to the flusher's thread.
  private let condition = NSCondition()
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
  private var thread: WorkerThread?
  private var connection: PostgresConnection?
  /// The flusher's thread's.
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

  /// - Precondition: `take` has answered the job before.
  func submit(_ job: Job) {
    condition.lock()
    precondition(self.job == nil && outcome == nil, "one flush at a time")
    self.job = job
    condition.broadcast()
    condition.unlock()
  }

  /// The outcome of the submitted job; nil if it is not there within the time.
  func take(waitMilliseconds: Int) -> (Job, FlushOutcome)? {
    condition.lock()
    defer { condition.unlock() }
    let end = Date(timeIntervalSinceNow: Double(waitMilliseconds) / 1_000)
    while outcome == nil, waitMilliseconds > 0, condition.wait(until: end) {}
    defer { outcome = nil }
    return outcome
  }

  // MARK: The thread

  private func run() {
    while true {
      condition.lock()
      while job == nil, !isClosed { condition.wait() }
      guard let job else {
        condition.unlock()
        return
      }
      condition.unlock()
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
    var epochs = job.epochs
    var takenOver: Set<Int32> = []
    var isFateUnknown = false
    /// Whether a commit of this job may still have been running when its connection was lost.
    var mayCommitLate = false
    var pause = 20
    while true {
      do {
        let connection = try open()
        if isFateUnknown, job.batch != nil {
          // The connection was lost at COMMIT: the offsets tell whether it was.
          switch try fate(of: job, epochs, connection) {
          case .stored:
            finish(job, started, rows: nil)
            return .stored(takenOver: takenOver)
          case .notStored(let lost):
            takenOver.formUnion(lost)
            for partition in lost { epochs[partition] = nil }
          }
          isFateUnknown = false
        }
        if epochs.isEmpty { return .stored(takenOver: takenOver) }
        let rows = try write(job, epochs, connection)
        finish(job, started, rows: rows)
        return .stored(takenOver: takenOver)
      } catch FlushStore.Refusal.takenOver(let partitions) {
        if mayCommitLate {
          // It may be this very job that moved the offsets: the server went on with the lost commit, and this attempt waited behind
          // it. Asked once more, the offsets tell.
          mayCommitLate = false
          isFateUnknown = true
          continue
        }
        metrics.takeovers.increment(by: partitions.count)
        logger.warning(
          "another process owns partitions now; their work is dropped",
          metadata: ["partitions": .array(partitions.map { .stringConvertible($0) })])
        // A refusal that names none would be repeated for ever.
        let lost = partitions.isEmpty ? Set(epochs.keys) : Set(partitions)
        takenOver.formUnion(lost)
        for partition in lost { epochs[partition] = nil }
      } catch {
        let cause = Self.cause(error)
        // Only a commit's own connection loss leaves doubt; asking needlessly is harmless.
        if cause?.isConnectionLost ?? true {
          isFateUnknown = true
          mayCommitLate = true
        }
        metrics.flushFailures.increment()
        health.report(
          settings.healthName("database"), problem: "\(cause.map { "\($0)" } ?? "\(error)")")
        if let times = repeated.note("\(error)") {
          logger.warning(
            "a flush failed and is tried again",
            metadata: ["error": "\(error)", "times": "\(times)"])
        }
        if !(connection?.isOpen ?? false) || cause?.isConnectionLost ?? true { connection = nil }
        let waited = Monotonic.milliseconds - started
        let patience = stop.isRaised ? 5_000 : settings.databasePatienceMilliseconds
        // MM002: a requeued dead letter was counted since it was looked up. The same batch would be refused for ever; the next
        // session looks it up again, and takes it for the duplicate that it is.
        if waited > patience || cause?.sqlState == "MM002" { return .gaveUp("\(error)") }
        Thread.sleep(forTimeInterval: Double(pause) / 1_000)
        pause = min(pause * 2, 1_000)
      }
    }
  }

  private static func cause(_ error: any Error) -> PostgresError? {
    if case FlushStore.Refusal.database(let error) = error { return error }
    return error as? PostgresError
  }

  private func open() throws -> PostgresConnection {
    if let connection { return connection }
    let opened = try PostgresConnection(
      url: settings.databaseURL, application: "\(settings.group) flush")
    connection = opened
    return opened
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

  // MARK: One transaction

  /// - Returns: the rows appended.
  private func write(
    _ job: Job, _ epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> Int {
    var rows = 0
    var statements: [SQLStatement] = []
    try connection.execute("begin")
    do {
      rows = try writer.append(job.cargo, job.batch, epochs: epochs, connection)
      let letters = job.batch?.deadLetters.filter { epochs[$0.partition] != nil } ?? []
      if settings.rules.keepsDeadLetters, !letters.isEmpty { try copy(letters, epochs, connection) }
      statements = try writer.statements(job.cargo, job.batch, epochs: epochs, connection)
    } catch {
      // The first error is the one to tell; a connection that cannot roll back is replaced.
      try? connection.execute("rollback")
      throw error
    }
    let store = FlushStore(
      connection, group: settings.group, topic: settings.topic, owner: owner)
    try store.commit(job.batch.map { commit($0, epochs) }, with: statements)
    return rows
  }

  private func copy(
    _ letters: [DeadLetter], _ epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws(PostgresError) {
    try connection.copy(into: FlushStore.deadLetterColumns, operation: "append dead letters") {
      (send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) in
      var rows = BinaryRows()
      rows.header()
      for letter in letters {
        rows.row(fields: 10)
        rows.field(settings.topic)
        rows.int4(letter.partition)
        rows.int8(letter.offset)
        rows.int4(epochs[letter.partition] ?? 0)
        rows.field(settings.group)
        rows.field(letter.reason.rawValue)
        rows.field(letter.reason.detail)
        rows.field(letter.payload)
        rows.field(letter.key)
        // Producers set it, up to 2^63−1; the year 9999 is the last that is written.
        rows.timestamp(milliseconds: min(max(letter.timestamp, 0), 253_402_300_799_000))
        if rows.bytes.count > 1 << 20 {
          try rows.send(send)
        }
      }
      rows.trailer()
      try rows.send(send)
    }
  }

  private func commit(_ batch: LogBatch, _ epochs: [Int32: Int32]) -> FlushStore.Commit {
    var c = FlushStore.Commit()
    for progress in batch.progress {
      guard let epoch = epochs[progress.partition] else { continue }
      c.epochs.append(Int64(epoch))
      c.partitions.append(Int64(progress.partition))
      c.expected.append(progress.expectedOffset)
      c.next.append(progress.nextOffset)
      c.lastOffsets.append(progress.lastRecordOffset)
      c.lastHashes.append(progress.lastRecordHash)
      for producer in progress.producers {
        c.producerPartitions.append(Int64(progress.partition))
        c.producers.append(String(decoding: producer.name, as: UTF8.self))
        c.producerOffsets.append(producer.lastOffset)
        c.forgotten.append(producer.isForgotten)
        c.sequences.append(producer.sequence)
        c.deadSequences.append(producer.deadSequence)
        c.counted.append(producer.counted)
        c.duplicates.append(producer.duplicates)
        c.repeated.append(producer.repeated)
        c.deadLettered.append(producer.deadLettered)
      }
    }
    for report in batch.reports where epochs[report.partition] != nil {
      c.reportProducers.append(report.producer)
      c.accepted.append(report.accepted)
      c.pending.append(report.pending)
      c.dropped.append(report.dropped)
      c.finals.append(report.isFinal)
      c.reportedAt.append(Self.iso8601(report.timestamp))
    }
    guard settings.rules.keepsDeadLetters else { return c }
    for requeued in batch.requeued where epochs[requeued.partition] != nil {
      c.requeuedEpochs.append(Int64(requeued.key.epoch))
      c.requeuedTopics.append(requeued.key.topic)
      c.requeuedPartitions.append(Int64(requeued.key.partition))
      c.requeuedOffsets.append(requeued.key.offset)
    }
    return c
  }

  private static func iso8601(_ milliseconds: Int64) -> String {
    Date(
      timeIntervalSince1970: Double(min(max(milliseconds, 0), 253_402_300_799_000)) / 1_000
    )
    .formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true))
      + "Z"
  }

  /// What became of a commit whose answer was lost. Only this process moves the offsets of partitions it has claimed, so any of them tells for all.
  private func fate(
    of job: Job, _ epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> FlushFate {
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let progress = (job.batch?.progress ?? []).filter { epochs[$0.partition] != nil }
    let stored = try store.stored(progress.map(\.partition))
    var lost = Set(progress.map(\.partition))
    for row in stored where row.claimedBy == owner && row.logEpoch == epochs[row.partition] {
      guard let mine = progress.first(where: { $0.partition == row.partition }) else { continue }
      if row.nextOffset == mine.nextOffset { return .stored }
      lost.remove(row.partition)
    }
    return .notStored(lost: lost)
  }
}
