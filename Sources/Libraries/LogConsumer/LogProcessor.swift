package import PostgresStore
package import UsageAggregation

/// The part of a consumer that a service provides: what the records of its topic become. The
/// consumer reads the log, finds duplicates, moves offsets and partitions, and never loses or
/// repeats a batch. A processor says what a batch becomes. It runs on the consumer's thread.
package protocol LogProcessor: AnyObject, SendableMetatype {
  associatedtype Writer: FlushWriter
  typealias Cargo = Writer.Cargo

  /// Takes over partitions, and reads what the store holds of them as of their `nextOffset`.
  func own(_ partitions: [OffsetStore.Stored], _ connection: PostgresConnection) throws
  func disown(_ partition: Int32)
  /// Called whenever the share of partitions may have changed.
  ///
  /// - Parameter isBehind: the log is being read as fast as possible.
  func shares(_ partitions: [Int32], isBehind: Bool)
  /// Called whenever a flush may be due, and when the batch is full. It may take out of the batch
  /// whatever needs no flush to be remembered.
  func review(_ batch: LogBatch, isBehind: Bool) -> FlushDecision<Cargo>
  /// Returns what is written with a batch that was just sealed, as of the offsets that the batch
  /// moves to.
  func seal(_ batch: LogBatch) -> Cargo
}

/// The decision about an open batch.
package enum FlushDecision<Cargo: Sendable>: Sendable {
  /// It stays open.
  case keep
  /// It stays open, and the cargo is stored immediately. Whoever reads the same records again may
  /// store it again, so storing it twice must have the same effect as storing it once.
  case tell(Cargo)
  /// It is sealed and stored.
  case flush
}

/// Writes cargo and batch within the flush's transaction. It runs on the flusher's thread.
package protocol FlushWriter: AnyObject, Sendable {
  associatedtype Cargo: Sendable

  /// Holds back a flush while the store has too much to do. It returns when the stop signal is
  /// raised.
  func waitForRoom(_ stop: StopSignal)
  /// Appends rows. It must not wait for another transaction's locks.
  ///
  /// - Parameters:
  ///   - batch: nil if only cargo is stored.
  ///   - epochs: the partitions that are written. Whatever batch and cargo hold of others is left
  ///     out.
  /// - Returns: the number of rows appended.
  func append(
    _ cargo: Cargo, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> Int
  /// Statements that go with the offsets in the last message before COMMIT, because they meet
  /// unique keys.
  func statements(
    _ cargo: Cargo, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> [SQLStatement]
  /// Called when the flush is committed.
  ///
  /// - Parameter rows: the result of `append`; nil if the answer to the commit was lost.
  func stored(_ cargo: Cargo, _ batch: LogBatch?, rows: Int?)
}
