/// Checkpoints of what partitions knew about their producers at some offsets. A recount uses them
/// if it cannot read the log from its beginning (see v0019_audit_checkpoint.sql).
package struct AuditCheckpointStore {
  private let connection: PostgresConnection
  private let group: String
  private let topic: String

  package init(_ connection: PostgresConnection, group: String, topic: String) {
    self.connection = connection
    self.group = group
    self.topic = topic
  }

  /// The place of a checkpoint.
  package struct Place: Sendable, Hashable {
    package var partition: Int32
    package var logEpoch: Int32
    /// The partition had been counted up to this offset.
    package var nextOffset: Int64
    /// Counting of the epoch began here, with an empty or an inherited dedupe window.
    package var beginsEpoch: Bool
  }

  /// One producer's row at that time.
  package struct Producer: Sendable {
    package var producer: String
    /// Its sequences are no longer remembered, but its counts are.
    package var isForgotten: Bool
    /// −1 for none.
    package var sequence: Int64
    package var deadSequence: Int64
    package var counted: Int64
    package var duplicates: Int64
    package var repeated: Int64
    package var deadLettered: Int64
  }

  /// Takes a checkpoint of each partition that has moved, unless its newest checkpoint is younger.
  ///
  /// - Returns: the number of checkpoints taken.
  @discardableResult
  package func take(leastAgeSeconds: Int) throws(PostgresError) -> Int {
    let rows = try connection.query(
      "select audit_checkpoint_take($1, $2, make_interval(secs => $3::int))",
      [.text(group), .text(topic), .int(leastAgeSeconds)], operation: "take audit checkpoints")
    return Int(rows.integer(0, 0) ?? 0)
  }

  /// Removes checkpoints before the low watermarks, and most of those older than a day.
  package func retain(_ lows: [(partition: Int32, low: Int64)]) throws(PostgresError) {
    try connection.query(
      "select audit_checkpoint_retain($1, $2, $3::int[], $4::bigint[])",
      [
        .text(group), .text(topic), .integers(lows.map { Int64($0.partition) }),
        .integers(lows.map(\.low)),
      ], operation: "retain audit checkpoints")
  }

  /// All places in the partitions' current epochs. Those of a partition are in the order of their
  /// offsets.
  package func places() throws(PostgresError) -> [Place] {
    let rows = try connection.query(
      """
      select c.partition, c.log_epoch, c.next_offset, c.begins_epoch
      from audit_checkpoint c
      join consumer_offset o using (consumer_group, topic, partition, log_epoch)
      where consumer_group = $1 and topic = $2 order by 1, 3
      """, [.text(group), .text(topic)], operation: "read audit checkpoints")
    return rows.rows.indices.map {
      Place(
        partition: Int32(rows.integer($0, 0)!), logEpoch: Int32(rows.integer($0, 1)!),
        nextOffset: rows.integer($0, 2)!, beginsEpoch: rows.boolean($0, 3))
    }
  }

  /// The producers of a checkpoint, those heard least recently first; nil if it was removed.
  package func producers(at place: Place) throws(PostgresError) -> [Producer]? {
    let rows = try connection.query(
      """
      select u.producer, u.forgotten, u.sequence, u.dead_sequence, u.counted, u.duplicates,
        u.repeated, u.dead_lettered
      from audit_checkpoint c
      left join lateral unnest(c.producers, c.forgotten, c.sequences, c.dead_sequences, c.counted,
        c.duplicates, c.repeated, c.dead_lettered) with ordinality
        u(producer, forgotten, sequence, dead_sequence, counted, duplicates, repeated,
          dead_lettered, place) on true
      where consumer_group = $1 and topic = $2 and partition = $3::int and log_epoch = $4::int
        and next_offset = $5::bigint
      order by u.place
      """,
      [
        .text(group), .text(topic), .int(Int(place.partition)), .int(Int(place.logEpoch)),
        .integer(place.nextOffset),
      ], operation: "read an audit checkpoint")
    if rows.rows.isEmpty { return nil }
    return rows.rows.indices.compactMap { i in
      rows.text(i, 0).map {
        Producer(
          producer: $0, isForgotten: rows.boolean(i, 1), sequence: rows.integer(i, 2)!,
          deadSequence: rows.integer(i, 3)!, counted: rows.integer(i, 4)!,
          duplicates: rows.integer(i, 5)!, repeated: rows.integer(i, 6)!,
          deadLettered: rows.integer(i, 7)!)
      }
    }
  }
}
