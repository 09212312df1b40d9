import Metering

/// The log epochs of a topic, for all consumer groups. An epoch belongs to the log, so all groups
/// that start over share its number.
package struct EpochStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The topics in which any group has offsets.
  package func topics() throws(PostgresError) -> [String] {
    try connection.query(
      "select distinct topic from consumer_offset order by 1", operation: "read offsets"
    ).rows.compactMap { $0[0] }
  }

  /// The groups that have offsets in a topic.
  package func groups(topic: String) throws(PostgresError) -> [String] {
    try connection.query(
      "select distinct consumer_group from consumer_offset where topic = $1 order by 1",
      [.text(topic)], operation: "read offsets"
    ).rows.compactMap { $0[0] }
  }

  /// Begins a new epoch for all of `groups`, because the topic was created again. Every partition
  /// starts at its low watermark.
  ///
  /// - Returns: the new epoch.
  package func beginEpoch(
    topic: String, groups: [String], _ lowWatermarks: [(partition: Int32, low: Int64)]
  ) throws -> Int {
    try connection.transaction {
      // If two operators do this at the same time, the second one begins another epoch instead of
      // the same one.
      try connection.lock(.newEpoch, topic, operation: "new epoch")
      let rows = try connection.query(
        "select coalesce(max(log_epoch), 0) + 1 from consumer_offset where topic = $1",
        [.text(topic)], operation: "new epoch")
      let epoch = rows.integer(0, 0)!
      try connection.query(
        """
        insert into consumer_offset (consumer_group, topic, partition, next_offset, log_epoch)
        select g, $1, u.partition, u.low, $5::int
        from unnest($2::text[]) g, unnest($3::int[], $4::bigint[]) u(partition, low)
        order by g, u.partition
        on conflict (consumer_group, topic, partition) do update set next_offset = excluded.next_offset,
          log_epoch = excluded.log_epoch, last_record_offset = null, last_record_hash = null,
          claimed_by = null, updated_at = now()
        """,
        [
          .text(topic), .texts(groups), .integers(lowWatermarks.map { Int64($0.partition) }),
          .integers(lowWatermarks.map(\.low)), .integer(epoch),
        ], operation: "new epoch")
      // Offsets of another log do not show which producer was heard last.
      try connection.query(
        "update producer_sequence set last_offset = -1 where topic = $1 and consumer_group = any ($2::text[])",
        [.text(topic), .texts(groups)], operation: "new epoch")
      return Int(epoch)
    }
  }
}
