import Metering

/// The offsets of a consumer group in a topic, and the state that moves with a partition.
package struct OffsetStore {
  package let connection: PostgresConnection
  package let group: String
  package let topic: String

  package init(_ connection: PostgresConnection, group: String, topic: String) {
    self.connection = connection
    self.group = group
    self.topic = topic
  }

  /// The row of a partition.
  package struct Stored: Sendable, Equatable {
    package var partition: Int32
    package var nextOffset: Int64
    package var logEpoch: Int32
    package var lastRecordOffset: Int64?
    package var lastRecordHash: Int64?
    package var claimedBy: String?
  }

  /// The row of a producer in a partition. In a flush, the numbers of events are those since the
  /// last flush.
  package struct StoredProducer: Sendable {
    package var partition: Int32
    package var producer: String
    /// The offset of its last record. It is −1 if that is not known, or was in an earlier log.
    package var lastOffset: Int64
    /// The partition no longer remembers its sequences.
    package var isForgotten: Bool
    package var sequence: Int64
    package var deadSequence: Int64
    package var counted: Int64
    package var duplicates: Int64
    package var repeated: Int64
    package var deadLettered: Int64

    package init(
      partition: Int32, producer: String, lastOffset: Int64, isForgotten: Bool, sequence: Int64,
      deadSequence: Int64, counted: Int64, duplicates: Int64, repeated: Int64, deadLettered: Int64
    ) {
      self.partition = partition
      self.producer = producer
      self.lastOffset = lastOffset
      self.isForgotten = isForgotten
      self.sequence = sequence
      self.deadSequence = deadSequence
      self.counted = counted
      self.duplicates = duplicates
      self.repeated = repeated
      self.deadLettered = deadLettered
    }
  }

  /// Gives every partition of the topic a row, if the group has none there yet. From then on, a
  /// partition that has no row was added later.
  ///
  /// - Parameter lows: all partitions of the topic with their low watermarks. One that is not known
  ///   gets an offset of -1, which `claim` replaces.
  package func open(_ lows: [(partition: Int32, low: Int64?)]) throws {
    try connection.transaction {
      // Two members may begin at the same time. The second one then finds the rows of the first.
      try connection.lock(.firstClaim, "\(group) \(topic)", operation: "open the topic")
      try connection.query(
        """
        insert into consumer_offset (consumer_group, topic, partition, next_offset, log_epoch)
        select $1, $2, u.partition, u.low,
          coalesce((select max(log_epoch) from consumer_offset where topic = $2), 1)
        from unnest($3::int[], $4::bigint[]) u(partition, low)
        where not exists (select from consumer_offset where consumer_group = $1 and topic = $2)
        order by u.partition
        """,
        [
          .text(group), .text(topic), .integers(lows.map { Int64($0.partition) }),
          .integers(lows.map { $0.low ?? -1 }),
        ], operation: "open the topic")
    }
  }

  /// Makes `owner` the only one whose flushes of these partitions are accepted. Returns where to
  /// start.
  ///
  /// Partitions without a row get one at `lowWatermarks[partition]`, in the newest epoch of the
  /// topic.
  package func claim(
    _ lowWatermarks: [(partition: Int32, low: Int64)], owner: String
  ) throws(PostgresError) -> [Stored] {
    let partitions = lowWatermarks.map { Int64($0.partition) }
    try connection.query(
      """
      insert into consumer_offset (consumer_group, topic, partition, next_offset, log_epoch)
      select $1, $2, u.partition, u.low, coalesce((select max(log_epoch) from consumer_offset where topic = $2), 1)
      from unnest($3::int[], $4::bigint[]) u(partition, low) order by u.partition
      on conflict do nothing
      """,
      [.text(group), .text(topic), .integers(partitions), .integers(lowWatermarks.map(\.low))],
      operation: "claim partitions")
    // Rows are locked in the order of the partitions, so that two processes that claim the same
    // ones do not deadlock.
    let rows = try connection.query(
      """
      with locked as (
        select partition from consumer_offset
        where consumer_group = $1 and topic = $2 and partition = any ($3::int[])
        order by partition for update
      )
      update consumer_offset o set claimed_by = $4,
        next_offset = case when o.next_offset < 0 then w.low else o.next_offset end
      from locked l, unnest($3::int[], $5::bigint[]) w(partition, low)
      where w.partition = o.partition and o.consumer_group = $1 and o.topic = $2 and o.partition = l.partition
      returning o.partition, next_offset, log_epoch, last_record_offset, last_record_hash, claimed_by
      """,
      [
        .text(group), .text(topic), .integers(partitions), .text(owner),
        .integers(lowWatermarks.map(\.low)),
      ], operation: "claim partitions")
    return Self.stored(rows)
  }

  package func stored(_ partitions: [Int32]? = nil) throws(PostgresError) -> [Stored] {
    let rows = try connection.query(
      """
      select partition, next_offset, log_epoch, last_record_offset, last_record_hash, claimed_by
      from consumer_offset where consumer_group = $1 and topic = $2
        and ($3::int[] is null or partition = any ($3::int[])) order by partition
      """,
      [
        .text(group), .text(topic),
        partitions.map { .integers($0.map { Int64($0) }) } ?? .null,
      ], operation: "read offsets")
    return Self.stored(rows)
  }

  private static func stored(_ rows: SQLRows) -> [Stored] {
    rows.rows.indices.map { i in
      Stored(
        partition: Int32(rows.integer(i, 0)!), nextOffset: rows.integer(i, 1)!,
        logEpoch: Int32(rows.integer(i, 2)!), lastRecordOffset: rows.integer(i, 3),
        lastRecordHash: rows.integer(i, 4), claimedBy: rows.text(i, 5))
    }
  }

  /// - Parameter latest: the most producers of each partition, those heard last and not forgotten;
  ///   nil for all.
  package func producers(
    _ partitions: [Int32], latest: Int? = nil
  ) throws(PostgresError) -> [StoredProducer] {
    let rows = try connection.query(
      """
      select partition, producer, sequence, dead_sequence, counted, duplicates, repeated, dead_lettered,
        last_offset, forgotten
      from (
        select *, row_number() over (
          partition by partition order by forgotten, last_offset desc, producer desc) as place
        from producer_sequence
        where consumer_group = $1 and topic = $2 and partition = any ($3::int[])
      ) s where $4::bigint is null or (not forgotten and place <= $4::bigint)
      """,
      [
        .text(group), .text(topic), .integers(partitions.map { Int64($0) }),
        latest.map { .int($0) } ?? .null,
      ], operation: "read producer sequences")
    return rows.rows.indices.map { i in
      StoredProducer(
        partition: Int32(rows.integer(i, 0)!), producer: rows.text(i, 1)!,
        lastOffset: rows.integer(i, 8)!, isForgotten: rows.boolean(i, 9),
        sequence: rows.integer(i, 2)!, deadSequence: rows.integer(i, 3)!,
        counted: rows.integer(i, 4)!, duplicates: rows.integer(i, 5)!,
        repeated: rows.integer(i, 6)!, deadLettered: rows.integer(i, 7)!)
    }
  }

  /// The partitions that have dropped producers with their counts before anybody reported them.
  package func forgetfulPartitions() throws(PostgresError) -> Set<Int32> {
    let rows = try connection.query(
      "select partition from producer_forgotten where consumer_group = $1 and topic = $2",
      [.text(group), .text(topic)], operation: "read producer sequences")
    return Set(rows.rows.indices.compactMap { rows.integer($0, 0).map { Int32($0) } })
  }

  /// The offsets of a partition's dead letters in its epoch, from `offset` on. Those of a part of
  /// the log that is lost say nothing about the records that have their offsets now.
  package func deadLetters(
    of partition: Stored, from offset: Int64
  ) throws(PostgresError) -> Set<Int64> {
    let rows = try connection.query(
      """
      select log_offset from dead_letter
      where topic = $1 and partition = $2::int and log_epoch = $3::int and log_offset >= $4::bigint
        and consumer_group = $5 and lost_from is null
      """,
      [
        .text(topic), .int(Int(partition.partition)), .int(Int(partition.logEpoch)),
        .integer(offset), .text(group),
      ], operation: "read dead letters")
    return Set(rows.rows.indices.compactMap { rows.integer($0, 0) })
  }

  /// Sets the window's size for each partition: the stored size, or `configured` from `nextOffset`
  /// on if that differs.
  package func window(
    for starts: [Stored], configured: Int
  ) throws(PostgresError) {
    try connection.query(
      """
      insert into dedupe_window (consumer_group, topic, partition, log_epoch, from_offset, window_offsets)
      select $1, $2, u.partition, u.epoch, u.next, $6::int
      from unnest($3::int[], $4::int[], $5::bigint[]) u(partition, epoch, next)
      where $6::int is distinct from (
        select w.window_offsets from dedupe_window w
        where w.consumer_group = $1 and w.topic = $2 and w.partition = u.partition and w.log_epoch = u.epoch
        order by w.from_offset desc limit 1)
      on conflict (consumer_group, topic, partition, log_epoch, from_offset)
        do update set window_offsets = excluded.window_offsets
      """,
      [
        .text(group), .text(topic), .integers(starts.map { Int64($0.partition) }),
        .integers(starts.map { Int64($0.logEpoch) }), .integers(starts.map(\.nextOffset)),
        .int(configured),
      ], operation: "store the dedupe window")
  }

  /// Every size that the window of a partition has had, with the offset from which it applied.
  package func windows() throws(PostgresError) -> [(
    partition: Int32, epoch: Int32, fromOffset: Int64, size: Int
  )] {
    let rows = try connection.query(
      """
      select partition, log_epoch, from_offset, window_offsets from dedupe_window
      where consumer_group = $1 and topic = $2 order by 1, 2, 3
      """, [.text(group), .text(topic)], operation: "read the dedupe window")
    return rows.rows.indices.map {
      (
        Int32(rows.integer($0, 0)!), Int32(rows.integer($0, 1)!), rows.integer($0, 2)!,
        Int(rows.integer($0, 3)!)
      )
    }
  }

  /// Gives up the records between the stored offset and `next`. They are lost, and `log_gap`
  /// records that. If the offset is set back, the trigger `log_lost` does the rest.
  package func acceptGap(
    partition: Int32, to next: Int64, reason: String, by person: String
  ) throws {
    try connection.transaction {
      try connection.query(
        """
        insert into log_gap (consumer_group, topic, partition, log_epoch, first_offset, last_offset, reason, accepted_by)
        select consumer_group, topic, partition, log_epoch, least(next_offset, $4::bigint),
          greatest(next_offset, $4::bigint) - 1, $5, $6
        from consumer_offset where consumer_group = $1 and topic = $2 and partition = $3::int
        for update
        """,
        [
          .text(group), .text(topic), .int(Int(partition)), .integer(next), .text(reason),
          .text(person),
        ], operation: "accept the gap")
      try connection.query(
        """
        update consumer_offset set next_offset = $4::bigint, last_record_offset = null, last_record_hash = null,
          claimed_by = null, updated_at = now()
        where consumer_group = $1 and topic = $2 and partition = $3::int
        """,
        [.text(group), .text(topic), .int(Int(partition)), .integer(next)],
        operation: "accept the gap")
    }
  }
}
