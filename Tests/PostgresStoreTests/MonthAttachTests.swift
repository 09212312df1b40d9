import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Partitions of months that are made beside a large default partition.
@Suite struct MonthAttachTests {
  private static let oldRows: Int64 = 7_000

  private func month(_ database: TestDatabase, _ offset: Int) throws -> String {
    try database.rows(
      """
      select to_char(date_trunc('month', now() at time zone 'UTC') + make_interval(months => $1::int),
        'YYYYMM')
      """, [.int(offset)])[0][0]!
  }

  /// The default partition has 19 MB of one month, and the next month has no partition.
  private func database() throws -> TestDatabase {
    let database = try TestDatabase()
    try database.addLicense("lic_1")
    // On a busy machine, a vacuum that begins now may block a step for longer than the step waits.
    try database.execute(
      """
      alter table usage_hour_default set (autovacuum_enabled = off);
      drop table usage_hour_\(try month(database, 1));
      insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
        quantity, event_count, minutes)
      select 'lic_old', 'a', date_trunc('month', now() - interval '20 months', 'UTC')
        + make_interval(hours => n % 600), 1, n / 600, 1, 2, 3, 1,
        rtrim(repeat('[5,0,0],', 200), ',') from generate_series(1, \(Self.oldRows)) n
      """)
    return database
  }

  private func append(_ database: TestDatabase, _ license: String, _ time: String) throws {
    try database.execute(
      """
      insert into usage_pending values (1, 0, '\(license)', 'a',
        date_trunc('hour', \(time), 'UTC'), 1, 2, 3, 1, '[5,3,1]', '["domain","a.example",3,1]')
      """)
  }

  private func step(_ database: TestDatabase) throws -> String? {
    try database.rows("select usage_month_make_next(3)")[0][0]
  }

  private func counted(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select sum(event_count)::bigint from usage_by_hour")
  }

  private func appended(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select count(*) from usage_appended")
  }

  private func fold(_ database: TestDatabase) throws {
    try database.execute(
      """
      update usage_append_state set seen = (select last_value from usage_append_count),
        seen_at = now() - interval '1 minute'
      """)
    var folds = 0
    while try database.integer("select usage_fold(1000)") ?? 0 > 0, folds < 100 { folds += 1 }
    #expect(folds < 100)
  }

  @Test func `What is merged while a month is kept out is read, and goes into its partition`()
    throws
  {
    let database = try database()
    let next = try month(database, 1)
    let firstDay = "date_trunc('month', now(), 'UTC') + interval '1 month'"
    #expect(try step(database) == "usage_hour_default")
    try append(database, "lic_1", firstDay)
    try append(database, "lic_1", "now()")
    #expect(try database.integer("select usage_merge('{0}')") == 2)
    #expect(try appended(database) == 1)
    try append(database, "lic_2", firstDay)
    #expect(try database.integer("select usage_merge('{0}', true)") == 1)
    #expect(try database.integer("select count(*) from usage_quarantine") == 0)
    for _ in 0..<2 {
      #expect(try appended(database) == 2)
      #expect(try counted(database) == Self.oldRows + 3)
      #expect(try database.integer("select sum(event_count)::bigint from usage_by_day") == 3)
      try fold(database)
    }
    // The process that kept the month out was killed, and this is another one.
    let other = TestDatabase(url: database.url)
    #expect(try PartitionStore(other.connection()).isKeepingMonthsOut())
    #expect(
      try PartitionStore(other.connection()).makeMissing(monthsAhead: 3).contains(
        "usage_hour_\(next)"))
    #expect(try !PartitionStore(other.connection()).isKeepingMonthsOut())
    try fold(database)
    #expect(try appended(database) == 0)
    #expect(try database.integer("select count(*) from usage_hour_\(next)") == 2)
    #expect(try counted(database) == Self.oldRows + 3)
  }

  @Test func `A large default partition is not looked through under the lock`() throws {
    let database = try database()
    #expect(try step(database) == "usage_hour_default")
    // The statistics of a transaction also count what earlier ones have not reported yet.
    try database.execute("select pg_stat_force_next_flush()")
    try database.execute("begin")
    #expect(try step(database) == "usage_hour_\(try month(database, 1))")
    // The one scan proves before the lock that no row of the month is left. Attaching would be a
    // second one.
    #expect(
      try database.integer(
        "select seq_scan from pg_stat_xact_user_tables where relname = 'usage_hour_default'") == 1)
    try database.execute("commit")
  }

  @Test func `Rows that wait in a large default partition move, and each reader sees them once`()
    throws
  {
    let database = try database()
    try database.execute("update usage_hour set written_at = now() - interval '8 days'")
    _ = try database.rows("select usage_retain(0)")
    #expect(try step(database) == "usage_hour_default")
    #expect(try step(database) == "usage_hour_\(try month(database, 1))")
    #expect(try step(database) == "usage_hour_default")
    // Retention may not touch the rows now, and tries again later.
    try database.execute("update usage_hour_look set next_look = now()")
    #expect(try database.integer("select usage_retain(10)") == 0)
    let late = TestDatabase(url: database.url)
    try late.execute("begin isolation level repeatable read; select count(*) from license")
    let old = try month(database, -20)
    #expect(try step(database) == "usage_hour_\(old)")
    #expect(try database.integer("select count(*) from usage_hour_default") == 0)
    #expect(try database.integer("select count(*) from usage_hour_\(old)") == Self.oldRows)
    #expect(try counted(database) == Self.oldRows)
    #expect(try counted(late) == Self.oldRows)
    try late.execute("commit")
    while try step(database) != nil {}
    try database.execute("update usage_hour_look set next_look = now()")
    #expect(try database.integer("select usage_retain(10)") == 10)
  }

  @Test func `A close lets a month in whose partition was not made`() throws {
    let database = try database()
    while try step(database) != "usage_hour_default" {}
    while try !database.rows("select usage_months_kept_out()::text")[0][0]!.contains(
      try database.rows("select to_char(now() - interval '20 months', 'YYYY-MM')")[0][0]!)
    { _ = try step(database) }
    try append(database, "lic_1", "now() - interval '20 months'")
    #expect(try database.integer("select usage_merge('{0}')") == 1)
    try fold(database)
    #expect(try appended(database) == 1)
    _ = try PeriodStore(database.connection()).close(
      PeriodStore.CloseRequest(
        endingBefore: try database.rows(
          "select date_trunc('month', now() at time zone 'UTC')::date")[0][0]!,
        closedBy: "test"))
    #expect(try appended(database) == 0)
    #expect(
      try database.integer(
        """
        select sum(event_count)::bigint from usage_by_period
        where closed_at is not null and license_id = 'lic_1'
        """) == 1)
    #expect(try !PartitionStore(database.connection()).isKeepingMonthsOut())
    while try step(database) != nil {}
    #expect(try counted(database) == Self.oldRows + 1)
  }
}
