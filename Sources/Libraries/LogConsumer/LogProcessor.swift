package import PostgresStore
package import UsageAggregation

/// The part of a consumer that a service brings: what the records of its topic become. The engine
/// around it reads the log, knows duplicates, moves offsets and partitions, and never loses or
/// repeats a batch; a processor says what a batch becomes. All of it runs on the consumer's thread.
package protocol LogProcessor: AnyObject, SendableMetatype {
  associatedtype Writer: FlushWriter
  typealias Cargo = Writer.Cargo

  /// Begins to own partitions: reads what the store holds of them, which is as of their
  /// `nextOffset`.
  func own(_ partitions: [OffsetStore.Stored], _ connection: PostgresConnection) throws
  func disown(_ partition: Int32)
  /// Called whenever the share of partitions may have changed.
  ///
  /// - Parameter isBehind: the log is read as fast as it can be.
  func shares(_ partitions: [Int32], isBehind: Bool)
  /// Asked whenever a flush may be due, and when the batch is full; takes out of it what needs no
  /// flush to be remembered.
  func review(_ batch: LogBatch, isBehind: Bool) -> FlushDecision<Cargo>
  /// What is to be written with a batch that was just sealed, as of the offsets that it moves to.
  func seal(_ batch: LogBatch) -> Cargo
}

/// The decision about an open batch.
package enum FlushDecision<Cargo: Sendable>: Sendable {
  /// It stays open.
  case keep
  /// It stays open, and the cargo is stored immediately. It may be stored again by whoever reads
  /// the same records again, so storing it twice must be storing it once.
  case tell(Cargo)
  /// It is sealed and stored.
  case flush
}

/// Writes cargo and batch inside the flush's transaction. All of it runs on the flusher's thread.
package protocol FlushWriter: AnyObject, Sendable {
  associatedtype Cargo: Sendable

  /// Holds a flush back while the store has too much to do; returns when the stop signal is raised.
  func waitForRoom(_ stop: StopSignal)
  /// Appends rows: nothing that waits for another transaction's locks.
  ///
  /// - Parameters:
  ///   - batch: nil where cargo is told alone.
  ///   - epochs: of the partitions that are written; what the batch or the cargo hold of others is
  ///     left out.
  /// - Returns: the rows appended.
  func append(
    _ cargo: Cargo, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> Int
  /// What goes with the offsets, in the last message before COMMIT: what meets unique keys.
  func statements(
    _ cargo: Cargo, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> [SQLStatement]
  /// Called when the flush is committed.
  ///
  /// - Parameter rows: as `append` answered; nil where the answer to the commit was lost.
  func stored(_ cargo: Cargo, _ batch: LogBatch?, rows: Int?)
}
