import UsageAggregation

/// A batch, or cargo alone, that is being stored.
///
/// `@unchecked Sendable`: the consumer's thread hands it to the flusher's through a locked mailbox,
/// and gets it back that way. Only one of them touches it at a time.
final class FlushJob<Cargo: Sendable>: @unchecked Sendable {
  let cargo: Cargo
  /// Nil if no offset moves.
  let batch: LogBatch?
  /// The epoch of each partition that is written.
  let epochs: [Int32: Int32]

  init(cargo: Cargo, batch: LogBatch?, epochs: [Int32: Int32]) {
    self.cargo = cargo
    self.batch = batch
    self.epochs = epochs
  }
}

/// The result of a flush.
enum FlushOutcome {
  /// It is stored, without the partitions that other processes own now.
  case stored(takenOver: Set<Int32>)
  /// The database did not accept it within the patience. Nothing of it is stored.
  case gaveUp(String)
}
