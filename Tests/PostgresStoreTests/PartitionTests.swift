import Foundation
import MeteringTestKit
import PostgresStore
import Synchronization
import Testing

/// Partitions by month, and the retention that uses them.
@Suite struct PartitionTests {
  private func month(_ database: TestDatabase, _ offset: Int) throws -> String {
    try database.rows(
      """
      select to_char(date_trunc('month', now() at time zone 'UTC') + make_interval(months => $1::int),
        'YYYYMM')
      """, [.int(offset)])[0][0]!
  }

  private func exists(_ database: TestDatabase, _ table: String) throws -> Bool {
    try database.rows("select to_regclass('\(table)')")[0][0] != nil
  }

  private func append(_ database: TestDatabase, _ license: String, _ time: String) throws {
    try database.execute(
      """
      insert into usage_pending values (1, 0, '\(license)', 'a',
        date_trunc('hour', \(time), 'UTC'), 1, 2, 3, 1, '[5,3,1]', '["domain","a.example",3,1]')
      """)
  }

  private func merge(_ database: TestDatabase) throws {
    _ = try database.rows("select usage_merge('{0}')")
  }

  @Test func `Months ahead are made, and those that were missed`() throws {
    let database = try TestDatabase()
    let store = PartitionStore(try database.connection())
    #expect(try store.makeMissing(monthsAhead: 5).count == 4)
    let missed = try month(database, 1)
    try database.execute("drop table usage_hour_\(missed), usage_day_\(missed)")
    #expect(
      try Set(store.makeMissing(monthsAhead: 5)) == ["usage_hour_\(missed)", "usage_day_\(missed)"])
    #expect(try store.makeMissing(monthsAhead: 5) == [])
  }

  @Test func `An import's months have partitions before its first event`() throws {
    let database = try TestDatabase()
    try ImportStore(database.connection()).register(
      .init(
        name: "b", fileHash: "h", fileName: "f", format: "combined", options: "{}",
        oldestTime: try database.rows("select (now() - interval '5 months')::text")[0][0]!,
        producer: "p"))
    for offset in -5...0 {
      let month = try month(database, offset)
      #expect(try exists(database, "usage_hour_\(month)"))
      #expect(try exists(database, "usage_day_\(month)"))
    }
  }

  @Test func `What lies in the default partition moves to its month, and readers see it once`()
    throws
  {
    let database = try TestDatabase()
    for n in 0..<20 { try append(database, "lic_\(n)", "now() - interval '8 months'") }
    try append(database, "lic_1", "now()")
    try merge(database)
    #expect(try database.integer("select count(*) from usage_hour_default") == 20)
    // The reader's snapshot is older than the move, and it has not read the table yet.
    let reader = TestDatabase(url: database.url)
    try reader.execute("begin isolation level repeatable read; select count(*) from license")
    try PartitionStore(database.connection()).makeMissing(monthsAhead: 3)
    #expect(try database.integer("select count(*) from usage_hour_default") == 0)
    #expect(try database.integer("select count(*) from usage_day_default") == 0)
    for view in ["usage_by_hour", "usage_by_day", "usage_by_minute"] {
      #expect(try database.integer("select sum(quantity)::bigint from \(view)") == 63)
      #expect(try reader.integer("select sum(quantity)::bigint from \(view)") == 63)
    }
    try reader.execute("commit")
  }

  @Test func `A large month leaves the default partition, and merges and readers go on meanwhile`()
    throws
  {
    let database = try TestDatabase()
    let old = try month(database, -8)
    try database.execute(
      """
      insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
        quantity, event_count, minutes)
      select 'lic_' || n, 'a', date_trunc('month', now() - interval '8 months', 'UTC')
        + make_interval(hours => n % 24), 1, 0, 1, 2, 3, 1, '[5,3,1]' from generate_series(1, 12000) n
      """)
    let late = TestDatabase(url: database.url)
    let patient = "set idle_in_transaction_session_timeout = 0; begin"
    try late.execute("\(patient) isolation level repeatable read; select count(*) from license")
    // A transaction that reads a table's rows keeps the table from being changed until it ends.
    let reader = TestDatabase(url: database.url)
    try reader.execute("\(patient); select count(*) from usage_hour")
    let maker = TestDatabase(url: database.url)
    let made = Mutex<Result<[String], any Error>?>(nil)
    let thread = Thread {
      let result = Result { try PartitionStore(maker.connection()).makeMissing(monthsAhead: 2) }
      made.withLock { $0 = result }
    }
    thread.start()
    try eventually("the rows have moved, and it waits") {
      try database.integer(
        """
        select count(*) from pg_locks where locktype = 'relation' and not granted
          and mode = 'AccessExclusiveLock' and relation = 'usage_hour'::regclass
          and database = (select oid from pg_database where datname = current_database())
        """) == 1
    }
    try database.execute("set lock_timeout = '3s'")
    for round in 1...5 {
      try append(database, "lic_1", "now() - interval '8 months'")
      try merge(database)
      #expect(
        try database.integer("select sum(quantity)::bigint from usage_by_hour")
          == Int64(36_000 + round * 3))
    }
    #expect(made.withLock { $0 == nil })
    try reader.execute("commit")
    try eventually("it is made") { made.withLock { $0 != nil } }
    #expect(try made.withLock { try $0?.get() }?.contains("usage_hour_\(old)") == true)
    #expect(try database.integer("select count(*) from usage_hour_default") == 0)
    #expect(try database.integer("select count(*) from usage_hour_\(old)") == 12_000)
    for reader in [(database, 36_015), (late, 36_000)] as [(TestDatabase, Int64)] {
      #expect(
        try reader.0.integer("select sum(quantity)::bigint from usage_by_hour") == reader.1)
    }
  }

  @Test func `An open reader keeps a partition from being attached, and nothing waits for that`()
    throws
  {
    let database = try TestDatabase()
    let reader = TestDatabase(url: database.url)
    try reader.execute("begin; select count(*) from usage_hour")
    let store = PartitionStore(try database.connection())
    #expect(try store.makeMissing(monthsAhead: 4) == [])
    try append(database, "lic_1", "now()")
    try merge(database)
    try reader.execute("commit")
    #expect(try store.makeMissing(monthsAhead: 4).count == 2)
  }

  @Test func `Months that passed while the database was off are made with what came meanwhile`()
    throws
  {
    let database = try TestDatabase()
    let store = PartitionStore(try database.connection())
    for offset in 0...2 {
      let passed = try month(database, offset)
      try database.execute(
        "drop table if exists usage_hour_\(passed); drop table if exists usage_day_\(passed)")
    }
    try append(database, "lic_1", "now()")
    try merge(database)
    #expect(try database.integer("select count(*) from usage_hour_default") == 1)
    try store.makeMissing(monthsAhead: 3)
    for offset in 0...3 {
      let made = try month(database, offset)
      #expect(try exists(database, "usage_hour_\(made)"))
      #expect(try exists(database, "usage_day_\(made)"))
    }
    #expect(try database.integer("select count(*) from usage_hour_default") == 0)
    #expect(try database.integer("select count(*) from usage_day_default") == 0)
    #expect(try database.integer("select sum(quantity)::bigint from usage_by_hour") == 3)
  }

  @Test func `Merges and readers go on while an open reader keeps partitions from being made`()
    throws
  {
    let database = try TestDatabase()
    let reader = TestDatabase(url: database.url)
    try reader.execute("begin; select count(*) from usage_hour; select count(*) from usage_day")
    let maker = TestDatabase(url: database.url)
    let made = Mutex<Result<[String], any Error>?>(nil)
    let thread = Thread {
      let result = Result { try PartitionStore(maker.connection()).makeMissing(monthsAhead: 4) }
      made.withLock { $0 = result }
    }
    thread.start()
    // This is far shorter than the reader stays, so a merge that queued behind it would fail.
    try database.execute("set lock_timeout = '5s'")
    var round = 0
    while made.withLock({ $0 == nil }) {
      round += 1
      try append(database, "lic_\(round)", "now()")
      try merge(database)
      #expect(
        try database.integer("select sum(event_count)::bigint from usage_by_hour") == Int64(round))
    }
    #expect(try made.withLock { try $0?.get() } == [])
    #expect(round > 0)
    try reader.execute("commit")
  }

  @Test func `Retention skips an hour that a merge is writing, and does not wait`() throws {
    let database = try TestDatabase()
    for license in ["lic_1", "lic_2"] {
      try append(database, license, "now() - interval '3 hours'")
    }
    try merge(database)
    while try database.integer("select usage_retain(1)") ?? 0 > 0 {}
    try database.execute(
      """
      update usage_hour set written_at = now() - interval '8 days';
      update usage_hour_look set next_look = now()
      """)
    let writer = TestDatabase(url: database.url)
    try writer.execute("begin; update usage_hour set quantity = 3 where license_id = 'lic_1'")
    try database.execute("set lock_timeout = '5s'")
    #expect(try database.integer("select usage_retain(10)") == 1)
    try writer.execute("commit")
    #expect(
      try database.rows("select license_id from usage_hour where minutes <> ''") == [["lic_1"]])
  }

  @Test func `Partitions of an older schema get the index and the constraint of new ones`() throws {
    let database = try TestDatabase()
    let store = PartitionStore(try database.connection())
    #expect(try database.integer("select count(*) from usage_partition_repair") == 0)
    let first = try month(database, 0)
    try database.execute(
      """
      drop index usage_hour_\(first)_by_hour;
      alter table usage_day_\(first) drop constraint usage_day_\(first)_bucket
      """)
    #expect(try database.integer("select count(*) from usage_partition_repair") == 2)
    try store.repair()
    #expect(try database.integer("select count(*) from usage_partition_repair") == 0)
    // When making a partition is cut off, an invalid index remains.
    try database.execute(
      "update pg_index set indisvalid = false where indexrelid = 'usage_hour_\(first)_by_hour'::regclass"
    )
    try store.repair()
    #expect(try database.integer("select count(*) from usage_partition_repair") == 0)
  }

  @Test func `A condition on a day's bucket_start leaves out the other months`() throws {
    let database = try TestDatabase()
    let store = PartitionStore(try database.connection())
    try store.makeMissing(monthsAhead: 4)
    let (this, next) = (try month(database, 0), try month(database, 1))
    let bounds = try database.rows(
      """
      select date_trunc('month', now(), 'UTC')::text,
        (date_trunc('month', now() at time zone 'UTC') + interval '1 month') at time zone 'UTC'
      """)[0]
    let plan = try database.rows(
      """
      explain select * from usage_by_day where license_id = 'lic_1'
        and bucket_start >= '\(bounds[0]!)' and bucket_start < '\(bounds[1]!)'
      """
    ).map { $0[0]! }.joined(separator: "\n")
    #expect(plan.contains("usage_day_\(this)"))
    #expect(!plan.contains("usage_day_\(next)"), "\(plan)")
  }

  @Test
  func `Retention looks at each day once a day, and finds late rows of the default partition`()
    throws
  {
    let database = try TestDatabase()
    try append(database, "lic_old", "now() - interval '20 months'")
    try append(database, "lic_new", "now() - interval '2 hours'")
    try append(database, "lic_kept", "now() - interval '3 hours'")
    try merge(database)
    func retain() throws {
      while try database.integer("select usage_retain(1)") ?? 0 > 0 {}
    }
    let minutes = "select license_id from usage_by_minute order by 1"
    try retain()
    try database.execute(
      """
      update usage_hour set written_at = now() - interval '8 days' where license_id <> 'lic_kept'
      """)
    // The days have just been looked at.
    try retain()
    #expect(try database.rows(minutes).count == 3)
    try database.execute("update usage_hour_look set next_look = now()")
    try retain()
    #expect(try database.rows(minutes) == [["lic_kept"]])
    try database.execute(
      """
      update usage_hour set written_at = now() - interval '401 days' where license_id <> 'lic_kept';
      update usage_hour_look set next_look = now()
      """)
    try retain()
    #expect(try database.rows("select license_id from usage_by_hour") == [["lic_kept"]])
    #expect(try database.integer("select count(*) from usage_by_day") == 3)
  }
}
