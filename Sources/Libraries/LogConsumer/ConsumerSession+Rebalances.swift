import KafkaTransport
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Handles the partitions that the group assigns and revokes, and stops those whose log may have
/// changed.
extension ConsumerSession {
  // MARK: Rebalances

  func answer(_ rebalance: KafkaConsumer.Rebalance, _ consumer: KafkaConsumer) throws {
    switch rebalance {
    case .assigned(let partitions):
      // The assignment is answered before anything that can fail, because a rebalance without an
      // answer holds up the group and the closing of the client. The partitions follow one by one
      // as they are claimed.
      try consumer.assign([])
      movement.groupAnswered()
      let now = Monotonic.milliseconds
      for partition in partitions.map(\.partition) where machines[partition] == nil {
        machines[partition] = PartitionMachine(assignedAt: now)
      }
      logger.info("partitions assigned", metadata: ["count": .stringConvertible(partitions.count)])
    case .revoked(let partitions, let lost):
      logger.info(
        "partitions revoked",
        metadata: ["count": .stringConvertible(partitions.count), "lost": "\(lost)"])
      // Another process may own lost partitions already. The store decides that, so trying to store
      // them does no harm.
      var failure: (any Error)?
      do { try drain() } catch { failure = error }
      for partition in partitions {
        forget(partition.partition)
        stopped.remove(partition.partition)
        machines[partition.partition] = nil
        metrics.forget(partition.partition)
      }
      try consumer.unassign(partitions)
      movement.waitsForGroup(at: Monotonic.milliseconds)
      if let failure { throw failure }
    }
    shareChanged()
    groupAnswered()
  }

  func forget(_ partition: Int32) {
    accumulator.disown(partition)
    processor.disown(partition)
    reading.remove(partition)
    movement.forget(partition)
    epochs[partition] = nil
    storedRows[partition] = nil
    anchors[partition] = nil
    badLooks[partition] = nil
    passedOver[partition] = nil
    recordedHalts[partition] = nil
  }

  // MARK: Stops

  /// Stops reading partitions whose log may have changed, and has them checked. They keep their
  /// state, and go on where they are if the log is the same.
  func doubt(_ partitions: [Int32]) {
    let now = Monotonic.milliseconds
    for partition in partitions where machines[partition]?.doubted(at: now) == true {
      reading.remove(partition)
      movement.forget(partition)
      stopped.insert(partition)
    }
  }

  /// Tells Kafka's client which partitions are no longer read. It is called only between
  /// rebalances, because librdkafka would take it for the answer to one.
  func unassignStopped(_ consumer: KafkaConsumer) throws {
    if stopped.isEmpty { return }
    defer { stopped.removeAll() }
    try consumer.unassign(
      stopped.sorted().map { TopicPartition(topic: settings.topic, partition: $0) })
  }

  /// Doubts partitions before a batch is used, because records that were fetched after the sign of
  /// a change may come from another log.
  func heedDoubts(_ consumer: KafkaConsumer) {
    let unseated = consumer.takeUnseated()
    for error in unseated.values {
      logger.warning(
        "a partition could not be set back to its position", metadata: ["error": "\(error)"])
    }
    doubt(unseated.keys.map(\.partition))
    let doubts = consumer.takeDoubts()
    if doubts.isEmpty { return }
    if doubts.concernsAll {
      doubt(Array(reading))
    } else {
      doubt(doubts.partitions.filter { $0.topic == settings.topic }.map(\.partition))
    }
  }

  /// Stops reading a partition that the group still assigns to this process, and forgets it.
  func stop(_ partition: Int32, _ standstill: Standstill) throws {
    machines[partition]?.stopped(standstill, at: Monotonic.milliseconds)
    try drop(partition)
  }

  /// Stops a partition whose remembered record is not in the log.
  func stopAnotherLog(_ partition: Int32, at offset: Int64) throws {
    let next = accumulator.position(of: partition) ?? offset + 1
    guard let standstill = LogContinuity.another(offset: offset).standstill(next: next) else {
      return
    }
    try stop(partition, standstill)
  }

  func drop(_ partition: Int32) throws {
    let row = storedRows[partition]
    let wasOwned = accumulator.owns(partition)
    forget(partition)
    storedRows[partition] = row
    // The partition's share of the open batch must not be mixed with what a later ownership counts.
    if wasOwned, !isFlushing { try seal() }
    stopped.insert(partition)
    shareChanged()
  }

}
