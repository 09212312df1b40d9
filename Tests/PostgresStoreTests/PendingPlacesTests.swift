import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// The marks of `usage_merged`, and readers that begin there.
@Suite struct PendingPlacesTests {
  private func database(partitions: Range<Int32> = 0..<2) throws -> TestDatabase {
    let database = try TestDatabase()
    _ = try offsets(database).claim(partitions.map { ($0, 0) }, owner: "test")
    return database
  }

  private func offsets(_ database: TestDatabase) throws -> OffsetStore {
    try OffsetStore(
      database.connection(), group: ConsumerGroup.aggregator, topic: TopicName.usage)
  }

  /// Adds one row for each of `count` licenses in partition 0, at the offsets after the stored one.
  /// Each row is `padding` bytes larger than usual.
  private func flush(
    _ database: TestDatabase, _ count: Int, padding: Int = 0, into table: PendingTable = .large
  ) throws {
    try database.connection().transaction {
      let next = try database.integer(
        "select next_offset from consumer_offset where partition = 0")!
      try database.execute(
        """
        insert into \(table.rawValue)
        select 1, 0, 'lic_' || n, 'a', '2027-02-01 10:00Z'::timestamptz, \(next) + n, \(next) + n, 3, 1,
          '[5,3,1]', '["domain","a.example",3,1]' || repeat(' ', \(padding))
        from generate_series(0, \(count) - 1) n;
        update consumer_offset set next_offset = next_offset + \(count) where partition = 0
        """)
    }
  }

  private func merge(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select usage_merge('{0,1}')")
  }

  private func mark(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select next_offset from usage_merged where partition = 0")
  }

  private func counted(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select coalesce(sum(event_count), 0)::bigint from usage_by_hour")
  }

  @Test func `An offset that is set back while a merge runs moves the mark back`() throws {
    let database = try database()
    try flush(database, 20)
    let merging = TestDatabase(url: database.url)
    try merging.execute("begin")
    #expect(try merge(merging) == 20)
    let url = database.url
    let done = DispatchSemaphore(value: 0)
    nonisolated(unsafe) var failure: (any Error)?  // Read after the semaphore.
    Thread {
      do {
        try OffsetStore(
          PostgresConnection(url: url, application: "operator"), group: ConsumerGroup.aggregator,
          topic: TopicName.usage
        ).acceptGap(partition: 0, to: 5, reason: "test", by: "test")
      } catch { failure = error }
      done.signal()
    }.start()
    try eventually("the operator waits for the merge") {
      try database.integer(
        """
        select count(*) from pg_stat_activity where application_name = 'operator'
          and wait_event_type = 'Lock' and datname = current_database()
        """) == 1
    }
    try merging.execute("commit")
    done.wait()
    #expect(failure == nil)
    #expect(try mark(database) == 0)
    try flush(database, 10)
    #expect(try counted(database) == 30)
    #expect(try merge(database) == 10)
    #expect(try mark(database) == 15)
    #expect(try counted(database) == 30)
  }

  @Test func `A merge does not wait while an offset is set back, and leaves the mark alone`()
    throws
  {
    let database = try database()
    try flush(database, 20)
    #expect(try merge(database) == 20)
    try flush(database, 5)
    let other = TestDatabase(url: database.url)
    try other.execute("begin; update consumer_offset set next_offset = 2 where partition = 0")
    #expect(try merge(database) == 5)
    #expect(try mark(database) == 20)
    try other.execute("commit")
    #expect(try mark(database) == 0)
    try flush(database, 3)
    #expect(try counted(database) == 28)
  }

  @Test func `Rows of a flush that a merge does not see lie after its mark`() throws {
    let database = try database()
    try flush(database, 20)
    let flushing = TestDatabase(url: database.url)
    try flushing.execute("begin")
    try flush(flushing, 7)
    #expect(try merge(database) == 20)
    #expect(try mark(database) == 20)
    try flushing.execute("commit")
    #expect(try counted(database) == 27)
    #expect(try merge(database) == 7)
    #expect(try mark(database) == 27)
  }

  @Test func `Rows of partitions that no mark knows are read and merged`() throws {
    let database = try database(partitions: 3..<6)
    for partition in [0, 2, 7, 2_147_483_647] {
      try database.execute(
        """
        insert into usage_pending values (1, \(partition), 'lic', 'a', '2027-02-01 10:00Z', 0, 0, 3, 1,
          '[5,3,1]', '')
        """)
    }
    #expect(try counted(database) == 4)
    #expect(try database.integer("select usage_merge('{2,7}')") == 2)
    #expect(try counted(database) == 4)
    #expect(try database.integer("select count(*) from usage_unmerged") == 2)
  }

  private static let readers = [
    "usage_by_minute where license_id = 'lic_7'", "usage_by_hour where license_id = 'lic_7'",
    "usage_by_day where license_id = 'lic_7'", "usage_by_period where license_id = 'lic_7'",
    "usage_by_dimension_day where license_id = 'lic_7'", "usage_provenance",
    "usage_total_by_period", "usage_total_by_customer_day", "usage_unfolded", "usage_late_pending",
    "billing_usage_by_hour where customer_id = 'cus_1'",
    "billing_usage_by_day where customer_id = 'cus_1'",
    "customer_days_by_days('cus_1', '2027-01-01', '2027-12-01')",
    "customer_days_by_totals('cus_1', '2027-01-01', '2027-12-01')",
    "periods_of_day_by_days('2027-02-01')",
    "usage_minutes('lic_7', '2027-02-01 10:00Z', '2027-02-01 11:00Z')",
    "usage_waiting_of('{lic_7,lic_8}')", "usage_unfolded_of('{cus_1}')",
  ]

  /// How many pages of the table this database's sessions have read.
  private func pages(_ database: TestDatabase) throws -> Int64 {
    _ = try database.rows("select pg_stat_force_next_flush()")
    return try database.integer(
      """
      select coalesce(heap_blks_read + heap_blks_hit, 0) from pg_statio_user_tables
      where relname = 'usage_pending'
      """) ?? 0
  }

  @Test func `Readers and merges pass by what an open reader keeps dead`() throws {
    let database = try database()
    let reader = TestDatabase(url: database.url)
    try reader.execute(
      "set idle_in_transaction_session_timeout = 0; begin isolation level repeatable read")
    #expect(try counted(reader) == 0)
    // A merge walks over a table of up to 64 MB.
    for _ in 0..<3 {
      try flush(database, 20_000, padding: 1_200)
      #expect(try merge(database) == 20_000)
    }
    let upkeep = UsageUpkeep(try database.connection())
    #expect(try upkeep.vacuum(.pending) >= 60_000)
    #expect(try database.integer("select pg_relation_size('usage_pending') >> 20") ?? 0 > 64)
    try flush(database, 50)
    for read in Self.readers {
      let plan = try database.rows("explain select * from \(read)").map { $0[0]! }
        .joined(separator: "\n")
      #expect(!plan.contains("Seq Scan on usage_pending "), "\(read)\n\(plan)")
      #expect(plan.contains("usage_pending_by_place"), "\(read)\n\(plan)")
    }
    let before = try pages(database)
    #expect(try counted(database) == 60_050)
    _ = try database.rows("select * from \(Self.readers[0])")
    #expect(try merge(database) == 50)
    #expect(try pages(database) - before < 500)
    #expect(try counted(reader) == 0)
    try reader.execute("commit")
    #expect(try counted(reader) == 60_050)
    try eventually("nothing is kept") { try upkeep.vacuum(.pending) == 0 }
  }

  @Test func `Readers of a license find rows of small flushes by an index`() throws {
    let database = try database()
    try database.addLicense("lic_7")
    try flush(database, 20_000, into: .recent)
    for read in Self.readers where read.contains("lic_7") || read.contains("_of(") {
      let plan = try database.rows(
        "explain select * from \(read.replacing("cus_1", with: "cus_test"))"
      ).map { $0[0]! }.joined(separator: "\n")
      #expect(plan.contains("usage_pending_recent_by_license"), "\(read)\n\(plan)")
      #expect(!plan.contains("Seq Scan on usage_pending_recent"), "\(read)\n\(plan)")
    }
    #expect(try merge(database) == 20_000)
    #expect(try mark(database) == 20_000)
    #expect(try counted(database) == 20_000)
  }

  @Test func `A merge takes what large and small flushes of a partition wrote`() throws {
    let database = try database()
    try flush(database, 20)
    try flush(database, 7, into: .recent)
    try flush(database, 5)
    #expect(try counted(database) == 32)
    #expect(try database.integer("select count(*) from usage_unmerged") == 32)
    #expect(try merge(database) == 32)
    #expect(try database.integer("select count(*) from usage_pending") == 0)
    #expect(try counted(database) == 32)
    #expect(try merge(database) == 0)
  }

  @Test
  func `Only the views of pending rows and the functions that delete them read usage_pending`()
    throws
  {
    let database = try TestDatabase()
    let views = try database.rows(
      """
      select relname from pg_class where relkind = 'v' and relnamespace = 'public'::regnamespace
        and pg_get_viewdef(oid) ~ '\\musage_pending\\M' order by 1
      """)
    #expect(views == [["usage_unmerged_large"]])
    let functions = try database.rows(
      """
      select proname from pg_proc where pronamespace = 'public'::regnamespace
        and prosrc ~ '(from|join|using)\\s+(only\\s+)?usage_pending\\M' order by 1
      """)
    #expect(functions == [["usage_close_chosen"], ["usage_merging_take"], ["usage_waiting_of"]])
    let sources = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Sources")
    for case let file as URL in FileManager.default.enumerator(
      at: sources, includingPropertiesForKeys: nil)!
    where file.pathExtension == "swift" {
      let text = try String(contentsOf: file, encoding: .utf8)
      #expect(
        text.range(
          of: #"(from|join)\s+usage_pending\b|part\("usage_pending""#, options: .regularExpression)
          == nil, "\(file.path) reads usage_pending and not usage_waiting")
    }
  }

  @Test func `An upgrade makes the index first, and waiting rows are read and merged`() throws {
    let database = TestDatabase(url: try SharedPostgres.makeDatabase(migrated: false))
    let connection = try database.connection()
    for migration in Schema.migrations where migration.version < 29 {
      try connection.transaction { try connection.execute(migration.sql) }
    }
    _ = try offsets(database).claim([(0, 0), (1, 0)], owner: "test")
    try flush(database, 30)
    #expect(try merge(database) == 30)
    try flush(database, 12)
    // Making the index was cut off in the middle.
    try database.execute(
      """
      create index usage_pending_by_place on usage_pending (partition, log_epoch, first_offset);
      update pg_index set indisvalid = false
      where indexrelid = 'usage_pending_by_place'::regclass
      """)
    _ = try Schema.migrate(PostgresConnection(url: database.url, application: "migrate"))
    #expect(
      try database.integer(
        "select count(*) from pg_index where indisvalid and indexrelid = 'usage_pending_by_place'::regclass"
      ) == 1)
    #expect(
      try database.rows("select * from usage_merged order by 1") == [
        ["0", "0", "0"], ["1", "0", "0"],
      ])
    #expect(try counted(database) == 42)
    #expect(try merge(database) == 12)
    #expect(try counted(database) == 42)
    #expect(try mark(database) == 42)
  }

  /// One merge walks over the table and the other over the index, and both wait for a third session
  /// that holds the row which is first in the table.
  @Test(arguments: PendingTable.allCases)
  func `Two merges of a partition take its rows in the same order`(table: PendingTable) throws {
    let database = try database()
    for offset in [9, 1] {
      try database.execute(
        """
        insert into \(table.rawValue) values (1, 0, 'lic', 'a', '2027-02-01 10:00Z', \(offset), \(offset), 3,
          1, '[5,3,1]', '')
        """)
    }
    let holder = TestDatabase(url: database.url)
    try holder.execute("begin; select from \(table.rawValue) where first_offset = 9 for update")
    let url = database.url
    func merge(_ plan: String, waiting: Int64) throws -> InBackground<Int64?> {
      let merge = InBackground {
        let merging = TestDatabase(url: url)
        try merging.execute(plan)
        return try merging.integer("select usage_merge('{0}')")
      }
      try eventually("\(waiting) merges wait") {
        try database.integer(
          """
          select count(*) from pg_stat_activity where wait_event_type = 'Lock'
            and query like '%usage_merge(%' and datname = current_database()
          """) == waiting
      }
      return merge
    }
    let first = try merge("set enable_indexscan = off; set enable_bitmapscan = off", waiting: 1)
    let second = try merge(
      "set enable_seqscan = off; set enable_bitmapscan = off", waiting: 2)
    try holder.execute("rollback")
    let moved = try [first.value(), second.value()].compactMap { $0 }
    #expect(moved.sorted() == [0, 2])
  }
}
