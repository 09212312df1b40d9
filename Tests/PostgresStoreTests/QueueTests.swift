import MeteringTestKit
import PostgresStore
import Testing

/// Merges and folds while a reader's transaction keeps the rows that they have taken.
@Suite struct QueueTests {
  /// Rows that are dead, of so many bytes that a walk over all of them would be dear.
  private func fill(_ database: TestDatabase, _ queue: String) throws {
    let row =
      queue == "usage_pending"
      ? "1, 63, 'l', 'a', now(), 1, 1, 1, 1, '', repeat('x', 1900)"
      : "repeat('x', 1900), 'a', current_date, 1, 1"
    try database.execute(
      """
      insert into \(queue) select \(row) from generate_series(1, 36000);
      delete from only \(queue)
      """)
  }

  private func append(_ database: TestDatabase, _ count: Int) throws {
    try database.execute(
      """
      insert into usage_pending
      select 1, 0, 'lic_' || n, 'a', date_trunc('hour', now()), 1, 2, 3, 1, '[5,3,1]', ''
      from generate_series(1, \(count)) n
      """)
  }

  private func merge(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select usage_merge('{0}')")
  }

  private func counted(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select sum(event_count)::bigint from usage_by_hour")
  }

  /// Pages of a table that this database's sessions have looked at.
  private func pages(_ database: TestDatabase, _ table: String) throws -> Int64 {
    _ = try database.rows("select pg_stat_force_next_flush()")
    return try database.integer(
      """
      select coalesce(heap_blks_read + heap_blks_hit, 0) from pg_statio_user_tables
      where relname = '\(table)'
      """) ?? 0
  }

  @Test func `Merges and folds pass by what an open reader keeps dead`() throws {
    let database = try TestDatabase()
    // Until the totals are complete, folds make them.
    while try database.integer("select usage_fold(1000)") ?? 0 > 0 {}
    let reader = TestDatabase(url: database.url)
    try reader.execute(
      """
      begin isolation level repeatable read;
      select count(*) from usage_pending; select count(*) from usage_delta
      """)
    for queue in ["usage_pending", "usage_delta"] {
      try fill(database, queue)
      #expect(
        try database.integer("select pg_relation_size('\(queue)') / 8192") ?? 0 > 8_192)
    }
    // The first of a session looks at all.
    try append(database, 20)
    #expect(try merge(database) == 20)
    _ = try database.rows("select usage_fold(1000)")
    for round in 2...4 {
      try append(database, 20)
      let before = try ["usage_pending", "usage_delta"].map { try pages(database, $0) }
      #expect(try merge(database) == 20)
      #expect(try database.integer("select usage_fold(1000)") == 20)
      let after = try ["usage_pending", "usage_delta"].map { try pages(database, $0) }
      for (before, after) in zip(before, after) { #expect(after - before < 3_000) }
      #expect(try counted(database) == Int64(round * 20))
    }
    #expect(try counted(reader) == nil)
    try reader.execute("commit")
    #expect(try counted(reader) == 80)
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_total_by_period") == 80)
  }

  @Test func `Rows in room that became free are counted while they wait for the next whole walk`()
    throws
  {
    let database = try TestDatabase()
    try fill(database, "usage_pending")
    try append(database, 10)
    #expect(try merge(database) == 10)
    // The room in front is free again, and the table as large as it was.
    try database.execute("vacuum (truncate false) usage_pending")
    try append(database, 10)
    #expect(
      try database.integer(
        "select max((ctid::text::point)[0])::bigint from only usage_pending") ?? .max < 8_000)
    let first = try merge(database) ?? 0
    #expect(try counted(database) == 20)
    _ = try database.rows("select set_config('metering.usage_pending_walked', '0', false)")
    #expect(try merge(database) == 10 - first)
    #expect(try counted(database) == 20)
    #expect(try database.integer("select count(*) from only usage_pending") == 0)
  }
}
