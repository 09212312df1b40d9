import KafkaTransport
import ServiceRuntime
import UsageAggregation

/// What the session tells metrics, health and the processor.
extension ConsumerSession {
  func report(_ consumer: KafkaConsumer) {
    let now = Monotonic.milliseconds
    guard now - lastReport >= ConsumerTiming.reportMilliseconds else { return }
    lastReport = now
    pacing.lag = 0
    var behind: [Int32] = []
    for partition in accumulator.ownedPartitions {
      let tp = TopicPartition(topic: settings.topic, partition: partition)
      if let high = consumer.cachedHighWatermark(tp),
        let position = accumulator.position(of: partition)
      {
        metrics.lag(partition, max(0, high - position))
        pacing.lag += max(0, high - position)
        // A log does not get shorter: it may be another one.
        if high < position { behind.append(partition) }
      }
    }
    doubt(behind)
    processor.shares(accumulator.ownedPartitions, isBehind: pacing.isBehind)
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
