/// Partitions that stand still, so that `meterctl` can show them and a restart does not hide them.
package struct PartitionHaltStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// Why one partition of one group stands still.
  package struct Halt: Sendable, Equatable {
    package var group: String
    package var topic: String
    package var partition: Int32
    /// What was found, written for the operator.
    package var reason: String
    /// The command that ends the halt; nil if no command does.
    package var remedy: String?
    /// RFC 3339 in UTC. The database sets it, so it is nil in halts that a consumer records.
    package var since: String?

    package init(
      group: String, topic: String, partition: Int32, reason: String, remedy: String?,
      since: String? = nil
    ) {
      self.group = group
      self.topic = topic
      self.partition = partition
      self.reason = reason
      self.remedy = remedy
      self.since = since
    }
  }

  /// Stores halts. A partition that was halted before keeps its time.
  package func record(_ halts: [Halt]) throws(PostgresError) {
    guard !halts.isEmpty else { return }
    // The order of the key keeps two processes that record the same partitions from a deadlock.
    for halt in halts.sorted(by: { $0.partition < $1.partition }) {
      try connection.query(
        """
        insert into partition_halt as h (consumer_group, topic, partition, reason, remedy)
        values ($1, $2, $3::int, $4, $5)
        on conflict (consumer_group, topic, partition)
          do update set reason = excluded.reason, remedy = excluded.remedy
          where (h.reason, h.remedy) is distinct from (excluded.reason, excluded.remedy)
        """,
        [
          .text(halt.group), .text(halt.topic), .int(Int(halt.partition)), .text(halt.reason),
          halt.remedy.map { .text($0) } ?? .null,
        ], operation: "record a halted partition")
    }
  }

  /// Forgets the halts of partitions that go on.
  package func clear(
    group: String, topic: String, partitions: [Int32]
  ) throws(PostgresError) {
    guard !partitions.isEmpty else { return }
    try connection.query(
      """
      delete from partition_halt
      where consumer_group = $1 and topic = $2 and partition = any ($3::int[])
      """,
      [.text(group), .text(topic), .integers(partitions.map { Int64($0) })],
      operation: "forget a halted partition")
  }

  /// The first `limit` halted partitions of all groups, ordered by group, topic and partition.
  package func halts(limit: Int = 10_000) throws(PostgresError) -> [Halt] {
    let rows = try connection.query(
      """
      select consumer_group, topic, partition, reason, remedy,
        to_char(halted_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
      from partition_halt order by 1, 2, 3 limit $1::int
      """, [.int(limit)], operation: "read halted partitions")
    return rows.rows.indices.map { i in
      Halt(
        group: rows.text(i, 0)!, topic: rows.text(i, 1)!, partition: Int32(rows.integer(i, 2)!),
        reason: rows.text(i, 3)!, remedy: rows.text(i, 4), since: rows.text(i, 5))
    }
  }
}
