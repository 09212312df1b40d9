import Metering

/// Stores what watching totals needs. Everything about one slot happens in one transaction that
/// holds the lock: what was learnt, the alerts, and the note that the slot is judged.
package struct UsageWatchStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The progress. Times are in minutes since 1970.
  package struct Progress: Sendable, Equatable {
    /// The time by the database's clock.
    package var now: Int64
    package var nextSlot: Int64
    /// Everything before this is in the database once the log's ends are reached.
    package var coveredUntil: Int64?
    package var isReached: Bool
    package var isChosenToday: Bool
    /// The epoch of the log, by which `cover` sees that the log was replaced meanwhile.
    package var logEpoch: Int64
  }

  /// A total that is watched, with its detector's state and its calls in a slot.
  package struct Series: Sendable {
    /// Empty for the total of all customers.
    package var customer: String
    package var meter: String
    package var state: [UInt8]
    package var calls: Double
    /// Whether the vendor was told of an anomaly that is still in progress.
    package var isTold: Bool

    package init(
      customer: String, meter: String, state: [UInt8], calls: Double, isTold: Bool = false
    ) {
      self.customer = customer
      self.meter = meter
      self.state = state
      self.calls = calls
      self.isTold = isTold
    }
  }

  /// Whether this transaction is the one that may judge.
  package func lock() throws(PostgresError) -> Bool {
    try connection.tryLock(.usageWatch, operation: "watch totals")
  }

  /// The progress. If nothing was judged yet, it begins with the current slot.
  package func progress(group: String, topic: String) throws(PostgresError) -> Progress {
    try connection.query(
      """
      insert into usage_watch (next_slot)
      select to_timestamp(floor(extract(epoch from now()) / 600) * 600) on conflict do nothing
      """, operation: "watch totals")
    let row = try connection.query(
      """
      select floor(extract(epoch from now()) / 60)::bigint,
        (extract(epoch from next_slot) / 60)::bigint,
        (extract(epoch from covered_until) / 60)::bigint,
        log_ends is not null and not exists (
          select from unnest(log_ends) with ordinality e(log_end, place)
          left join consumer_offset o on o.consumer_group = $1 and o.topic = $2
            and o.partition = e.place - 1
          where e.log_end > 0 and coalesce(o.next_offset, 0) < e.log_end),
        chosen_on is not distinct from (now() at time zone 'UTC')::date,
        (select coalesce(max(log_epoch), 0) from consumer_offset
          where consumer_group = $1 and topic = $2)
      from usage_watch
      """, [.text(group), .text(topic)], operation: "watch totals")
    return Progress(
      now: row.integer(0, 0) ?? 0, nextSlot: row.integer(0, 1) ?? 0,
      coveredUntil: row.integer(0, 2), isReached: row.boolean(0, 3),
      isChosenToday: row.boolean(0, 4), logEpoch: row.integer(0, 5) ?? 0)
  }

  /// Notes that everything before `minute` is in the database once these ends of the log are
  /// reached. What another process has noted for a later minute stays. Ends of an earlier epoch are
  /// not noted, because nobody will reach them.
  package func cover(
    until minute: Int64, logEnds: [Int64], ofEpoch epoch: Int64, group: String, topic: String
  ) throws(PostgresError) {
    try connection.query(
      """
      update usage_watch set covered_until = to_timestamp($1::bigint * 60), log_ends = $2::bigint[]
      where (covered_until is null or covered_until < to_timestamp($1::bigint * 60))
        and $3::bigint = (select coalesce(max(log_epoch), 0) from consumer_offset
          where consumer_group = $4 and topic = $5)
      """,
      [.integer(minute), .integers(logEnds), .integer(epoch), .text(group), .text(topic)],
      operation: "watch totals")
  }

  package func advance(to minute: Int64) throws(PostgresError) {
    try connection.query(
      "update usage_watch set next_slot = to_timestamp($1::bigint * 60)", [.integer(minute)],
      operation: "watch totals")
  }

  package func choose(customers: Int) throws(PostgresError) {
    try connection.query(
      "select usage_watch_choose($1::int)", [.int(customers)], operation: "choose totals")
    try connection.query(
      "update usage_watch set chosen_on = (now() at time zone 'UTC')::date",
      operation: "choose totals")
  }

  /// All watched totals, with their calls in the ten minutes from `minute` on.
  package func series(at minute: Int64) throws(PostgresError) -> [Series] {
    let rows = try connection.query(
      """
      select s.customer_id, s.meter, encode(s.state, 'hex'), coalesce(t.quantity, 0)::float8,
        s.is_open
      from usage_watch_series s
      left join usage_watch_totals(to_timestamp($1::bigint * 60)) t
        on t.customer_id = s.customer_id and t.meter = s.meter
      order by 1, 2
      """, [.integer(minute)], operation: "read totals")
    return rows.rows.indices.map { row in
      Series(
        customer: rows.text(row, 0) ?? "", meter: rows.text(row, 1) ?? "",
        state: Hexadecimal.bytes(rows.text(row, 2) ?? ""),
        calls: rows.text(row, 3).flatMap { Double($0) } ?? 0, isTold: rows.boolean(row, 4))
    }
  }

  package func store(_ series: [Series]) throws(PostgresError) {
    try connection.query(
      """
      update usage_watch_series s set state = decode(n.state, 'hex'), is_open = n.is_open
      from unnest($1::text[], $2::text[], $3::text[], $4::boolean[])
        n(customer_id, meter, state, is_open)
      where s.customer_id = n.customer_id and s.meter = n.meter
      """,
      [
        .texts(series.map(\.customer)), .texts(series.map(\.meter)),
        .texts(series.map { Hexadecimal.text($0.state) }), .booleans(series.map(\.isTold)),
      ], operation: "store totals")
  }

  /// - Parameter found: a JSON array, see `usage_anomaly_raise`.
  package func raise(_ found: String) throws(PostgresError) {
    try connection.query(
      "select usage_anomaly_raise($1::jsonb)", [.text(found)], operation: "raise alerts")
  }
}
