import Metering

/// The first rows of a topic's new partitions when their number is doubled.
package struct GrowthStore {
  package let connection: PostgresConnection
  package let topic: String

  package init(_ connection: PostgresConnection, topic: String) {
    self.connection = connection
    self.topic = topic
  }

  /// The place where one partition of a group branched off another, in the group's current log
  /// epoch.
  package struct Branch: Sendable, Equatable {
    package var group: String
    package var partition: Int32
    package var firstOffset: Int64
    package var parent: Int32
    package var parentOffset: Int64
  }

  /// - Parameter group: nil selects those of all groups.
  package func branches(group: String?) throws(PostgresError) -> [Branch] {
    let rows = try connection.query(
      """
      select consumer_group, partition, first_offset, parent_partition, parent_offset
      from partition_parent p join consumer_offset o using (consumer_group, topic, partition, log_epoch)
      where topic = $1 and ($2::text is null or consumer_group = $2) order by 1, 2
      """, [.text(topic), .optional(group)], operation: "read the parents of partitions")
    return rows.rows.indices.map { i in
      Branch(
        group: rows.text(i, 0)!, partition: Int32(rows.integer(i, 1)!),
        firstOffset: rows.integer(i, 2)!, parent: Int32(rows.integer(i, 3)!),
        parentOffset: rows.integer(i, 4)!)
    }
  }

  /// At most `limit` producers whose accepted events are not all accounted for, in any group.
  package func undrained(
    limit: Int
  ) throws(PostgresError) -> [(group: String, producer: String, inFlight: Int64)] {
    let rows = try connection.query(
      """
      select consumer_group, producer, in_flight from producer_ledger
      where topic = $1 and in_flight <> 0 order by in_flight desc limit $2::int
      """, [.text(topic), .int(limit)], operation: "read the ledger")
    return rows.rows.indices.map {
      (rows.text($0, 0) ?? "", rows.text($0, 1) ?? "", rows.integer($0, 2) ?? 0)
    }
  }

  /// Gives partitions n to 2n − 1 their rows in every group: the next offset, the window's parent,
  /// the highest sequence of each producer, and a detector's state. Rows of an interrupted run are
  /// written again.
  ///
  /// - Parameters:
  ///   - firstOffsets: the new partitions' low watermarks in order, or 0 for those that do not
  ///     exist yet.
  ///   - ends: the offsets up to which the parents must have been counted.
  /// - Throws: `PostgresError` if a parent has moved, or if a new partition has been counted
  ///   already.
  package func grow(
    groups: [String], count n: Int, firstOffsets: [Int64], ends: [Int64]
  ) throws {
    try connection.transaction {
      try connection.lock(.newEpoch, topic, operation: "grow")
      let parents = try connection.query(
        """
        select count(*) from consumer_offset o
        join unnest($3::bigint[]) with ordinality e(high, place) on o.partition = e.place - 1
        where o.topic = $1 and o.consumer_group = any ($2::text[]) and o.next_offset = e.high
        """, [.text(topic), .texts(groups), .integers(ends)], operation: "grow")
      guard parents.integer(0, 0) == Int64(groups.count * n) else {
        throw PostgresError(
          sqlState: SQLState.notInNeededState, operation: "grow",
          message: "a consumer has moved on meanwhile: records still arrive")
      }
      let counted = try connection.query(
        """
        select count(*) from consumer_offset o left join partition_parent p
          using (consumer_group, topic, partition, log_epoch)
        where o.topic = $1 and o.consumer_group = any ($2::text[]) and o.partition >= $3::int
          and o.partition < 2 * $3::int
          and (p.first_offset is null or o.next_offset <> p.first_offset or o.last_record_offset is not null)
        """, [.text(topic), .texts(groups), .int(n)], operation: "grow")
      guard counted.integer(0, 0) == 0 else {
        throw PostgresError(
          sqlState: SQLState.notInNeededState, operation: "grow",
          message: "a new partition has been counted already")
      }
      for statement in Self.copies {
        try connection.query(
          statement, [.text(topic), .texts(groups), .int(n), .integers(firstOffsets)],
          operation: "grow")
      }
    }
  }

  /// Removes the rows that `grow` wrote for partitions that could not be created.
  package func undo(groups: [String], count n: Int) throws {
    try connection.transaction {
      for table in [
        "consumer_offset", "producer_sequence", "partition_parent", "dedupe_window",
        "detector_state", "audit_checkpoint",
      ] {
        try connection.query(
          """
          delete from \(table) where topic = $1 and consumer_group = any ($2::text[])
            and partition >= $3::int and partition < 2 * $3::int
          """, [.text(topic), .texts(groups), .int(n)], operation: "grow")
      }
    }
  }

  /// $1 topic, $2 groups, $3 the number of parents, $4 the children's first offsets in order.
  private static let copies = [
    """
    insert into consumer_offset (consumer_group, topic, partition, next_offset, log_epoch)
    select consumer_group, topic, partition + $3::int, ($4::bigint[])[partition + 1], log_epoch
    from consumer_offset
    where topic = $1 and consumer_group = any ($2::text[]) and partition < $3::int
    order by consumer_group, partition
    on conflict (consumer_group, topic, partition) do update
      set next_offset = excluded.next_offset, log_epoch = excluded.log_epoch, claimed_by = null,
        updated_at = now()
    """,
    """
    insert into partition_parent
      (consumer_group, topic, partition, log_epoch, first_offset, parent_partition, parent_offset)
    select consumer_group, topic, partition + $3::int, log_epoch, ($4::bigint[])[partition + 1],
      partition, next_offset
    from consumer_offset
    where topic = $1 and consumer_group = any ($2::text[]) and partition < $3::int
    on conflict (consumer_group, topic, partition, log_epoch) do update
      set first_offset = excluded.first_offset, parent_offset = excluded.parent_offset,
        grown_at = now()
    """,
    // The counts stay with the parent, and the ledger adds up both. A producer's last record keeps
    // its distance to the place where the child branches off, because these offsets decide who is
    // forgotten first.
    """
    insert into producer_sequence (consumer_group, topic, partition, producer, sequence,
      dead_sequence, counted, duplicates, repeated, dead_lettered, last_offset, forgotten)
    select s.consumer_group, s.topic, s.partition + $3::int, s.producer, s.sequence,
      s.dead_sequence, 0, 0, 0, 0,
      case when s.last_offset < 0 then s.last_offset
        else s.last_offset - o.next_offset + ($4::bigint[])[s.partition + 1] end,
      s.forgotten
    from producer_sequence s join consumer_offset o using (consumer_group, topic, partition)
    where s.topic = $1 and s.consumer_group = any ($2::text[]) and s.partition < $3::int
    on conflict (consumer_group, topic, partition, producer) do update
      set sequence = excluded.sequence, dead_sequence = excluded.dead_sequence,
        last_offset = excluded.last_offset, forgotten = excluded.forgotten
    """,
    """
    insert into dedupe_window
      (consumer_group, topic, partition, log_epoch, from_offset, window_offsets)
    select distinct on (w.consumer_group, w.partition) w.consumer_group, w.topic,
      w.partition + $3::int, w.log_epoch, ($4::bigint[])[w.partition + 1], w.window_offsets
    from dedupe_window w join consumer_offset o using (consumer_group, topic, partition, log_epoch)
    where w.topic = $1 and w.consumer_group = any ($2::text[]) and w.partition < $3::int
    order by w.consumer_group, w.partition, w.from_offset desc
    on conflict (consumer_group, topic, partition, log_epoch, from_offset) do update
      set window_offsets = excluded.window_offsets
    """,
    """
    delete from detector_state where topic = $1 and consumer_group = any ($2::text[])
      and partition >= $3::int and partition < 2 * $3::int and cardinality($4::bigint[]) >= 0
    """,
    // The child's detector knows its licenses from the parent. What it knows of other licenses
    // fades.
    """
    insert into detector_state (consumer_group, topic, partition, log_epoch, next_offset, piece, state)
    select s.consumer_group, s.topic, s.partition + $3::int, s.log_epoch,
      ($4::bigint[])[s.partition + 1], s.piece, s.state
    from detector_state s join consumer_offset o using (consumer_group, topic, partition, log_epoch)
    where s.topic = $1 and s.consumer_group = any ($2::text[]) and s.partition < $3::int
    """,
  ]
}
