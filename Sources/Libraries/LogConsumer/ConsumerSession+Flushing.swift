import KafkaTransport
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Hands the open batch to the flusher, and handles the results.
extension ConsumerSession {
  func flushIfDue() throws {
    let now = Monotonic.milliseconds
    if pacing.isCatchingUp, now - lastLag >= ConsumerTiming.lagMilliseconds { lookAtLag(now) }
    guard !isFlushing else { return }
    let entries = batch.table.groupCount + batch.table.cellCount
    guard pacing.isDue(at: now, entries: entries) else { return }
    // The consumer may have fallen behind since the last look.
    lookAtLag(now)
    if pacing.isDue(at: now, entries: entries) { try review() }
  }

  /// - Precondition: no flush is under way.
  func review() throws {
    switch processor.review(batch, isBehind: pacing.isBehind) {
    case .keep: pacing.keptOpen(at: Monotonic.milliseconds)
    case .flush: try seal()
    case .tell(let cargo):
      pacing.keptOpen(at: Monotonic.milliseconds)
      isFlushing = true
      flusher?.submit(FlushJob(cargo: cargo, batch: nil, epochs: epochs))
    }
  }

  /// Hands the open batch to the flusher and opens the other one.
  ///
  /// - Precondition: no flush is under way.
  func seal() throws {
    precondition(!isFlushing, "a batch that cannot be handed over must not be sealed")
    accumulator.seal(batch)
    pacing.sealed()
    if batch.progress.isEmpty {
      batch.reset()
      return
    }
    guard let next = spare, let flusher else { return }
    spare = nil
    let job = FlushJob(
      cargo: processor.seal(batch), batch: batch,
      epochs: epochs.filter { e in batch.progress.contains { $0.partition == e.key } })
    batch = next
    isFlushing = true
    flusher.submit(job)
  }

  /// Takes the result of the flush under way, if there is one.
  func settleFlush(waitMilliseconds: Int) throws {
    guard isFlushing, let flusher else { return }
    var outcome = flusher.take(waitMilliseconds: min(waitMilliseconds, 1_000))
    // The flusher's patience is bounded, so this ends.
    while outcome == nil, waitMilliseconds == .max {
      // The flusher has its own heartbeat.
      pulse.beat()
      outcome = flusher.take(waitMilliseconds: 1_000)
    }
    guard let (job, result) = outcome else { return }
    isFlushing = false
    var stored: [(Int32, Int64)] = []
    if let flushed = job.batch {
      accumulator.settled(flushed)
      stored = flushed.progress.map { ($0.partition, $0.nextOffset) }
      flushed.reset()
      spare = flushed
    }
    switch result {
    case .stored(let takenOver):
      madeProgress = true
      consumer?.commitAsync(
        stored.filter { !takenOver.contains($0.0) }.map {
          (TopicPartition(topic: settings.topic, partition: $0.0), $0.1)
        })
      for (partition, offset) in stored where !takenOver.contains(partition) {
        machines[partition]?.progressed()
        leftAt[partition] = offset
      }
      for partition in takenOver where machines[partition]?.isHeld == true {
        try self.stop(partition, Standstill(.takenOver, "another process has claimed it"))
      }
    case .gaveUp(let problem):
      throw SessionProblem(description: "the database does not accept flushes: \(problem)")
    }
  }

  /// Stores everything taken so far.
  func drain() throws {
    try awaitFlush()
    try seal()
    try awaitFlush()
  }

  /// Waits until no flush is in progress. A flush that met a takeover seals the open batch, which
  /// then becomes the next flush.
  func awaitFlush() throws {
    while isFlushing { try settleFlush(waitMilliseconds: .max) }
  }
}
