import Metering

extension LogAccumulator {
  /// Closes the batch: adds how far every owned partition has come since it was last sealed. A batch
  /// without progress is never stored. What it counted belongs to other consumers now, or is counted
  /// again if its partitions come back.
  package mutating func seal(_ batch: LogBatch) {
    for owned in partitions.values where owned.state.halt == nil {
      let changed = owned.state.producers.takeChanged()
      guard owned.state.position > owned.state.sealedOffset else {
        precondition(changed.isEmpty, "a producer changes only with a record that counts")
        continue
      }
      batch.progress.append(
        PartitionProgress(
          partition: owned.state.partition, expectedOffset: owned.state.sealedOffset,
          nextOffset: owned.state.position, lastRecordOffset: owned.state.last,
          lastRecordHash: owned.state.lastHash, producers: changed))
      owned.state.sealedOffset = owned.state.position
    }
    batch.progress.sort { $0.partition < $1.partition }
    if batch.progress.isEmpty { settled(batch) }
  }

  /// Must be called when a sealed batch is stored (or dropped). The dead letters that it settled
  /// are in the store then.
  package mutating func settled(_ batch: LogBatch) {
    for requeued in batch.requeued { requeuedHere.remove(requeued.key) }
  }
}
