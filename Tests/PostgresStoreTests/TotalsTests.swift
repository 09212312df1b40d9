import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Compares the running totals with the days below them.
@Suite struct TotalsTests {
  /// Totals, read in any way, that differ from the views in one snapshot.
  private func differences(_ database: TestDatabase) throws -> [[String?]] {
    let connection = try database.connection()
    return try connection.transaction("begin isolation level repeatable read read only") {
      var found = try connection.query(Self.periods, operation: "compare").rows
      found += try connection.query(Self.days, operation: "compare").rows
      for customer in ["cus_0", "cus_1"] {
        for (totals, days) in Self.reads(customer) {
          found += try connection.query(
            "(\(totals) except \(days)) union all (\(days) except \(totals))",
            operation: "compare"
          ).rows
        }
      }
      return found
    }
  }

  private static let periods = """
    select 'period', license_id, meter, t.period_start::text, t.quantity::text, v.quantity::text
    from usage_total_by_period t full join (
      select license_id, meter, (period_start at time zone 'UTC')::date as period_start,
        (period_end at time zone 'UTC')::date as period_end, quantity, event_count
      from usage_by_period) v using (license_id, meter, period_start)
    where t.quantity is distinct from v.quantity or t.event_count is distinct from v.event_count
      or t.period_end <> v.period_end
    """

  private static let days = """
    select 'customer', customer_id, meter, day::text, t.quantity::text, v.quantity::text
    from usage_total_by_customer_day t full join (
      select coalesce(l.customer_id, '') as customer_id, meter,
        (bucket_start at time zone 'UTC')::date as day, sum(quantity) as quantity,
        sum(event_count) as event_count
      from usage_by_day d left join license l on l.license_id = d.license_id group by 1, 2, 3
    ) v using (customer_id, meter, day)
    where t.quantity is distinct from v.quantity or t.event_count is distinct from v.event_count
    """

  private static func reads(_ customer: String) -> [(String, String)] {
    let range = "'\(customer)', '2027-01-20', '2027-03-10'"
    return [
      (
        "select 'd', * from customer_days_by_totals(\(range))",
        "select 'd', * from customer_days_by_days(\(range))"
      ),
      (
        "select 'p', * from customer_periods_by_totals(\(range))",
        "select 'p', * from customer_periods_by_days(\(range))"
      ),
      (
        "select 'o', * from periods_of_day_by_totals('2027-02-10')",
        "select 'o', * from periods_of_day_by_days('2027-02-10')"
      ),
    ]
  }

  /// Adds some pending rows of ten licenses in three months, most of them in one.
  private static let append = """
    insert into usage_pending_recent
    select 1, n % 2, 'lic_' || (random() * 9)::int, case when random() < 0.8 then 'a' else 'b' end,
      '2027-02-01 00:00Z'::timestamptz + make_interval(hours => (random() * 1400 - 600)::int),
      1, 2, 3, 1, '[5,3,1]', '' from generate_series(1, 20) n
    """

  private static let changes = [
    """
    insert into license_billing_anchor
    select 'lic_' || n, ('2027-01-01'::date + (random() * 80)::int), 1 + (random() * 30)::int
    from generate_series(0, 4) n where exists (
      select from license where license_id = 'lic_' || n) on conflict do nothing
    """,
    "update license_billing_anchor set anchor_day = 1 + (random() * 30)::int where random() < 0.3",
    "delete from license_billing_anchor where random() < 0.3",
    "update license set customer_id = 'cus_' || (random())::int where random() < 0.3",
    "delete from license where license_id = 'lic_' || (random() * 9)::int",
    """
    with made as (
      insert into license (license_id, customer_id, plan, issued_at, expires_at)
      select 'lic_' || n, 'cus_' || n % 2, 'p', now(), now() + interval '1 year'
      from generate_series(0, 9) n on conflict (license_id) do update set plan = 'q'
      returning license_id)
    insert into license_billing_anchor select license_id, '-infinity', 9 from made
    on conflict do nothing
    """,
  ]

  private func database() throws -> TestDatabase {
    let database = try TestDatabase()
    try database.execute(
      "insert into customer (customer_id, name) values ('cus_0', 'a'), ('cus_1', 'b')")
    return database
  }

  private func foldAll(_ database: TestDatabase) throws {
    try eventually("all is folded") {
      _ = try database.rows("select usage_fold(1000)")
      return try database.integer(
        "select (select count(*) from usage_delta) + (select count(*) from usage_total_state "
          + "where not is_complete)") == 0
    }
  }

  /// Merges, folds and changes of licenses run together, while a reader compares all the time.
  /// - Parameter killing: whether the folds' connections are ended at any moment.
  private func storm(_ database: TestDatabase, killing: Bool, rounds: Int = 40) async throws {
    let url = database.url
    try await withThrowingTaskGroup(of: Void.self) { group in
      for partition in 0..<2 {
        group.addTask {
          let own = TestDatabase(url: url)
          for _ in 0..<rounds {
            try own.execute(Self.append)
            _ = try own.rows("select usage_merge('{\(partition)}')")
          }
        }
      }
      group.addTask {
        let own = TestDatabase(url: url)
        for _ in 0..<rounds * 3 {
          // A connection that was ended is opened again.
          do { _ = try own.rows("select usage_fold(15)") } catch let error as PostgresError {
            guard killing, error.isConnectionLost else { throw error }
          }
        }
      }
      group.addTask {
        let own = TestDatabase(url: url)
        var random = SeededRandom(seed: SeededRandom.testSeed())
        for _ in 0..<rounds {
          // Two changes of the same totals may meet in a different order. The one that loses tries
          // again.
          do { try own.execute(Self.changes.randomElement(using: &random)!) } catch let error
            as PostgresError
          { guard error.isRetriable else { throw error } }
        }
      }
      group.addTask {
        let own = TestDatabase(url: url)
        for _ in 0..<rounds / 2 {
          if try own.integer("select count(*) from usage_total_state where is_complete") == 1 {
            #expect(try differences(own).prefix(3) == [])
          }
          guard killing else { continue }
          _ = try own.rows(
            """
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and query like 'select usage_fold%'
            """)
        }
      }
      try await group.waitForAll()
    }
    // Until the totals of older days are made, they are too small.
    if try database.integer("select count(*) from usage_total_state where is_complete") == 1 {
      #expect(try differences(database).prefix(3) == [])
    }
    _ = try database.rows("select usage_merge('{0,1}')")
    try foldAll(database)
    #expect(try differences(database).prefix(3) == [])
  }

  @Test(arguments: MergeKind.allCases)
  func `Totals are the sum of their days while merges, folds and changes run together`(
    kind: MergeKind
  ) async throws {
    let database = try database()
    try kind.set(database)
    try foldAll(database)
    try await storm(database, killing: false)
    #expect(try database.integer("select count(*) from usage_license_period") ?? 0 > 10)
    // Nothing more comes, so the appended rows now go into the days as well.
    for _ in 0..<100 where try database.integer("select count(*) from usage_appended") ?? 0 > 0 {
      try database.execute("update usage_append_state set began = '-infinity', key_rows = 1")
      _ = try database.rows("select usage_fold(1000)")
    }
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_license_period")
        == database.integer("select sum(event_count)::bigint from usage_day"))
  }

  @Test(arguments: MergeKind.allCases)
  func `A fold that is killed at any moment loses and doubles nothing`(kind: MergeKind) async throws
  {
    let database = try database()
    try kind.set(database)
    try foldAll(database)
    try await storm(database, killing: true)
  }

  @Test(arguments: MergeKind.allCases)
  func `Days from before the totals are made in steps, while merges and changes go on`(
    kind: MergeKind
  ) async throws {
    let database = try database()
    try kind.set(database)
    try database.execute(Self.changes.last!)
    for _ in 0..<30 { try database.execute(Self.append) }
    _ = try database.rows("select usage_merge('{0,1}')")
    // This is the state in which the migration finds the database.
    try database.execute("truncate usage_delta")
    // Until all totals are made, the reads answer from the days.
    let read =
      "select * from customer_usage_by_day('cus_0', '2027-01-01', '2028-01-01') order by 1, 2"
    let before = try database.rows(read)
    #expect(before.count > 10)
    _ = try database.rows("select usage_fold(100)")
    #expect(try database.rows("select is_complete from usage_total_state") == [["f"]])
    #expect(try database.rows(read) == before)
    try await storm(database, killing: true)
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_license_period") == 2_200)
  }

  @Test func `Nothing is made before the merges that know no deltas have ended`() throws {
    let database = try database()
    try database.execute(Self.append)
    _ = try database.rows("select usage_merge('{0,1}')")
    try database.execute("truncate usage_delta")
    let other = TestDatabase(url: database.url)
    // This open transaction may have begun before the migration.
    try other.execute("begin; update customer set name = 'c' where customer_id = 'cus_0'")
    try database.execute("update usage_total_state set installed_by = pg_current_xact_id()")
    _ = try database.rows("select usage_fold(100)")
    #expect(
      try database.rows("select is_complete, made_through from usage_total_state") == [["f", ""]])
    try other.execute("commit")
    try foldAll(database)
    #expect(try differences(database) == [])
  }

  @Test func `The hour's minutes are those of the view`() throws {
    let database = try database()
    for n in 0..<3 {
      _ = try database.rows(
        """
        insert into usage_pending select 1, 0, 'lic_1', 'a', '2027-02-01 10:00Z'::timestamptz
          + make_interval(hours => h), 1, 2, 3, 2, '[5,1,1],[' || 6 + \(n) || ',2,1]', ''
        from generate_series(0, 3) h
        """)
      if n == 1 { _ = try database.rows("select usage_merge('{0,1}')") }
    }
    let range = "'2027-02-01 11:06Z', '2027-02-01 13:06Z'"
    #expect(
      try database.rows("select * from usage_minutes('lic_1', \(range)) order by 1, 2")
        == database.rows(
          """
          select meter, bucket_start, quantity, event_count from usage_by_minute
          where license_id = 'lic_1' and bucket_start >= '2027-02-01 11:06Z'
            and bucket_start < '2027-02-01 13:06Z' order by 1, 2
          """))
  }

  @Test func `A table that a large backlog has passed through gives its pages back`() throws {
    let database = try database()
    _ = try database.rows(
      """
      insert into usage_pending
      select 1, 0, 'lic_' || n, 'a', '2027-02-01 10:00Z', 1, 2, 3, 1, '[5,3,1]', ''
      from generate_series(1, 20000) n
      """)
    _ = try database.rows("select usage_merge('{0}')")
    let size = "select pg_relation_size('usage_pending')"
    let before = try #require(try database.integer(size))
    let upkeep = UsageUpkeep(try database.connection())
    // A table that is not large keeps its pages for the next rows.
    try upkeep.vacuum(.pending)
    #expect(try database.integer(size) == before)
    try eventually("the pages are given back") {
      try upkeep.vacuum(.pending, roomyBytes: 0)
      return try database.integer(size) ?? before < before / 10
    }
  }

  @Test func `Two changes of a license's anchors at the same time leave its totals whole`()
    throws
  {
    let database = try database()
    try database.addLicense("lic_0")
    try database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_0', 'a', '2027-02-05 10:00Z', 1, 1, 7, 1, '[5,7,1]', '')
      """)
    _ = try database.rows("select usage_merge('{0}')")
    try foldAll(database)
    let first = TestDatabase(url: database.url)
    try first.execute(
      "begin; insert into license_billing_anchor values ('lic_0', '2027-06-15', 15)")
    let url = database.url
    let second = InBackground {
      try TestDatabase(url: url).execute(
        "insert into license_billing_anchor values ('lic_0', '2027-08-20', 20)")
    }
    try eventually("the second change waits") {
      try database.integer(
        """
        select count(*) from pg_stat_activity where wait_event_type = 'Lock'
          and query like '%2027-08-20%' and datname = current_database()
        """) == 1
    }
    try first.execute("commit")
    try second.value()
    #expect(
      try database.integer(
        "select sum(quantity)::bigint from usage_license_period where license_id = 'lic_0'") == 7)
    #expect(try differences(database).isEmpty)
  }
}
