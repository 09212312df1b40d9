import MeteringTestKit
import PostgresStore
import Testing

/// Folds while a reader's transaction keeps the rows that they have taken. `PendingPlacesTests` has
/// the same tests for merges.
@Suite struct QueueTests {
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

  /// How many pages of the deltas this database's sessions have read.
  private func pages(_ database: TestDatabase) throws -> Int64 {
    _ = try database.rows("select pg_stat_force_next_flush()")
    return try database.integer(
      """
      select coalesce(heap_blks_read + heap_blks_hit, 0) from pg_statio_user_tables
      where relname = 'usage_delta'
      """) ?? 0
  }

  @Test func `Folds pass by what an open reader keeps dead`() throws {
    let database = try TestDatabase()
    // Until the totals are complete, folds make them.
    while try database.integer("select usage_fold(1000)") ?? 0 > 0 {}
    let reader = TestDatabase(url: database.url)
    try reader.execute(
      "begin isolation level repeatable read; select count(*) from usage_delta")
    // These dead rows have so many bytes that a walk over all of them would be expensive.
    try database.execute(
      """
      insert into usage_delta
      select repeat('x', 1900), 'a', current_date, 1, 1 from generate_series(1, 36000);
      delete from usage_delta
      """)
    #expect(try database.integer("select pg_relation_size('usage_delta') / 8192") ?? 0 > 8_192)
    // The first fold of a session looks at all rows.
    try append(database, 20)
    #expect(try merge(database) == 20)
    _ = try database.rows("select usage_fold(1000)")
    for round in 2...4 {
      try append(database, 20)
      let before = try pages(database)
      #expect(try merge(database) == 20)
      #expect(try database.integer("select usage_fold(1000)") == 20)
      #expect(try pages(database) - before < 3_000)
      #expect(try counted(database) == Int64(round * 20))
    }
    #expect(try counted(reader) == nil)
    try reader.execute("commit")
    #expect(try counted(reader) == 80)
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_total_by_period") == 80)
  }
}
