/// How far usage is counted, and the time up to which everything that the log had received is
/// counted.
package struct ProgressStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct Offsets: Sendable {
    /// The server's clock, read before the rest, in milliseconds since 1970.
    package var at: Int64
    /// The partitions whose beginning is known.
    package var rows: [(partition: Int32, next: Int64, epoch: Int32)]
    package var halted: Set<Int32>
  }

  package func offsets(group: String, topic: String) throws(PostgresError) -> Offsets {
    // This is a separate statement, because the time must lie before everything that is read.
    let clock = try connection.query(
      "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint",
      operation: "read the clock")
    let rows = try connection.query(
      """
      select o.partition, o.next_offset, o.log_epoch, h.partition is not null
      from consumer_offset o left join partition_halt h using (consumer_group, topic, partition)
      where o.consumer_group = $1 and o.topic = $2
      union all
      select h.partition, null, null, true from partition_halt h
      where h.consumer_group = $1 and h.topic = $2 and not exists (
        select from consumer_offset o
        where o.consumer_group = $1 and o.topic = $2 and o.partition = h.partition)
      """, [.text(group), .text(topic)], operation: "read offsets")
    var offsets = Offsets(at: clock.integer(0, 0) ?? 0, rows: [], halted: [])
    for i in rows.rows.indices {
      guard let partition = rows.integer(i, 0).map({ Int32($0) }) else { continue }
      if rows.boolean(i, 3) { offsets.halted.insert(partition) }
      // A negative offset stands for a partition whose beginning is not known yet. It is treated as
      // if it had no row.
      if let next = rows.integer(i, 1), next >= 0, let epoch = rows.integer(i, 2) {
        offsets.rows.append((partition, next, Int32(epoch)))
      }
    }
    return offsets
  }

  /// The time in milliseconds since 1970. Nil if it is not known yet.
  package func completeThrough() throws(PostgresError) -> Int64? {
    try connection.query(
      "select floor(extract(epoch from complete_through) * 1000)::bigint from usage_progress",
      operation: "read how far usage is"
    ).rows.first?[0].flatMap { Int64($0) }
  }

  /// Moves the time forward. An earlier time changes nothing.
  ///
  /// - Parameter time: the time in milliseconds since 1970.
  package func advance(to time: Int64) throws(PostgresError) {
    try connection.query(
      """
      insert into usage_progress as p (complete_through) values (to_timestamp($1::bigint / 1000.0))
      on conflict (only_row) do update
        set complete_through = greatest(p.complete_through, excluded.complete_through)
        where p.complete_through < excluded.complete_through
      """, [.integer(time)], operation: "store how far usage is")
  }
}
