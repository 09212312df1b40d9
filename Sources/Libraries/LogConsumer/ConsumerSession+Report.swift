import KafkaTransport
import ServiceRuntime
import UsageAggregation

/// What the session reports to metrics, health and the processor.
extension ConsumerSession {
  /// The log end as last fetched, and the offset that is read next.
  private func place(of partition: Int32) -> (high: Int64?, position: Int64?) {
    let place = TopicPartition(topic: settings.topic, partition: partition)
    return (consumer?.cachedHighWatermark(place), accumulator.position(of: partition))
  }

  func lookAtLag(_ now: Int) {
    lastLag = now
    var lag: Int64 = 0
    for partition in accumulator.ownedPartitions {
      if case (let high?, let position?) = place(of: partition) { lag += max(0, high - position) }
    }
    pacing.found(lag: lag, at: now)
    processor.shares(accumulator.ownedPartitions, isBehind: pacing.isBehind)
  }

  func report(_ consumer: KafkaConsumer) {
    let now = Monotonic.milliseconds
    guard now - lastReport >= ConsumerTiming.reportMilliseconds else { return }
    lastReport = now
    lookAtLag(now)
    var behind: [Int32] = []
    for partition in accumulator.ownedPartitions {
      guard case (let high?, let position?) = place(of: partition) else { continue }
      metrics.lag(partition, max(0, high - position))
      // A log does not get shorter, so it may be another one.
      if high < position { behind.append(partition) }
    }
    doubt(behind)
    let standing = machines.compactMap { partition, machine in
      machine.standstill.map { (partition: partition, standstill: $0) }
    }
    standstills.tell(standing)
    metrics.rebuildingPartitions.set(
      accumulator.ownedPartitions.count { accumulator.isRebuilding($0) })
    metrics.haltedPartitions.set(standing.count)
    metrics.batchBytes.set(batch.table.bytes)
    for error in consumer.takeErrors() { kafka.met(error, at: now) }
  }

  /// Ends the session if nothing moves, so that the next one begins with a new client.
  func checkMovement() throws {
    guard let problem = movement.problem(at: lastReport) else { return }
    if problem.isFinal { throw SessionProblem(description: problem.text) }
    health.report(settings.healthName("consumer"), problem: problem.text, logs: false)
  }

  /// The partitions that this process owns have changed.
  func shareChanged() {
    let partitions = accumulator.ownedPartitions
    processor.shares(partitions, isBehind: pacing.isBehind)
    metrics.ownedPartitions.set(partitions.count)
  }

  /// The group has told this member what to read.
  func groupAnswered() {
    kafka.groupAnswered()
    health.report(settings.healthName("consumer"), problem: nil, logs: false)
  }
}
