import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// The sources of a close's sums: the running totals, the rows that wait for them, or the days.
@Suite struct ClosingTotalsTests {
  /// The licenses whose totals are made, in the order of bytes.
  enum Made: CaseIterable, CustomTestStringConvertible {
    case all
    case some
    case none

    var testDescription: String { "\(self)" }

    /// From then on, no totals of further licenses are made.
    func set(_ database: TestDatabase) throws {
      try ClosingTotalsTests.makeTotals(database)
      guard self != .all else { return }
      try database.execute(
        """
        update usage_total_state set is_complete = false, installed_by = '9000000000000000000',
          made_through = '\(self == .some ? "lic_moved" : "")'
        """)
    }
  }

  private static func makeTotals(_ database: TestDatabase) throws {
    try eventually("the totals are made") {
      _ = try database.rows("select usage_fold(1000)")
      return try database.integer("select count(*) from usage_total_state where is_complete") == 1
    }
  }

  private func checkInvariant(_ database: TestDatabase) throws {
    let connection = try database.connection()
    let differences = try connection.transaction(
      "begin isolation level repeatable read read only"
    ) { try ClosingInvariant.differences(connection) }
    #expect(differences == [])
  }

  private func database() throws -> TestDatabase {
    let database = try TestDatabase()
    try database.addLicense("lic_31", anchorDay: 31)
    try database.addLicense("lic_moved", anchorDay: 1)
    try database.addLicense("lic_one", anchorDay: 9)
    try database.addLicense("lic_same", anchorDay: 1)
    try database.execute(
      """
      insert into license_billing_anchor values ('lic_moved', '2025-01-17', 17);
      insert into license_limit values ('lic_31', 'a', 100)
      """)
    return database
  }

  /// Adds one row for each day of a key, with a quantity and a number of events.
  private func use(_ database: TestDatabase, _ quantity: Int, events: Int) throws {
    _ = try database.rows(
      """
      insert into usage_pending
      select 1, 0, k.license, k.meter, k.day::timestamp at time zone 'UTC' + interval '5 hours', 7, 9,
        $1::bigint, $2::bigint, '[3,' || $1 || ',' || $2 || ']',
        '["domain","a.example",' || $1 || ',' || $2 || ']'
      from (values
        ('lic_31', 'a', '2025-01-30'::date), ('lic_31', 'a', '2025-01-31'),
        ('lic_31', 'a', '2025-02-27'), ('lic_31', 'a', '2025-02-28'), ('lic_31', 'a', '2025-03-30'),
        ('lic_31', 'a', '2025-03-31'), ('lic_moved', 'a', '2025-01-16'),
        ('lic_moved', 'a', '2025-01-17'), ('lic_moved', 'b', '2025-02-17'),
        ('lic_one', 'a', '2025-01-09'), ('lic_one', 'b', '2025-02-08'),
        ('lic_one', 'a', '2025-02-09'), ('lic_same', 'a', '2025-01-31'),
        ('lic_unknown', 'a', '2025-01-31'), ('lic_unknown', 'a', '2025-02-01'),
        ('lic_unknown', 'a', '2025-03-31')
      ) k(license, meter, day)
      """, [.int(quantity), .int(events)])
  }

  /// Puts something into each stage of a row's way into the totals: 1000 events are folded, 100 are
  /// merged and not folded, 10 are appended, and 1 is pending.
  private func fill(_ database: TestDatabase, _ made: Made) throws {
    try use(database, 2_000, events: 1_000)
    _ = try database.rows("select usage_merge('{0}')")
    try made.set(database)
    _ = try database.rows("select usage_fold(1000)")
    try use(database, 300, events: 100)
    _ = try database.rows("select usage_merge('{0}')")
    try MergeKind.appending.set(database)
    try use(database, 40, events: 10)
    _ = try database.rows("select usage_merge('{0}')")
    try use(database, 5, events: 1)
  }

  private func closed(_ database: TestDatabase) throws -> [String] {
    try database.rows(
      """
      select concat_ws(' ', license_id, meter, period_start, period_end, quantity, event_count)
      from usage_period_closed order by license_id, meter, period_start
      """
    ).map { $0[0]! }
  }

  private static let march = [
    "lic_31 a 2024-12-31 2025-01-31 2345 1111", "lic_31 a 2025-01-31 2025-02-28 4690 2222",
    "lic_31 a 2025-02-28 2025-03-31 4690 2222", "lic_moved a 2025-01-01 2025-01-17 2345 1111",
    "lic_moved a 2025-01-17 2025-02-17 2345 1111", "lic_moved b 2025-02-17 2025-03-17 2345 1111",
    "lic_one a 2025-01-09 2025-02-09 2345 1111", "lic_one a 2025-02-09 2025-03-09 2345 1111",
    "lic_one b 2025-01-09 2025-02-09 2345 1111", "lic_same a 2025-01-01 2025-02-01 2345 1111",
    "lic_unknown a 2025-01-01 2025-02-01 2345 1111",
    "lic_unknown a 2025-02-01 2025-03-01 2345 1111",
  ]

  private func request(_ day: String) -> PeriodStore.CloseRequest {
    PeriodStore.CloseRequest(endingBefore: day, closedBy: "test")
  }

  @Test(arguments: Made.allCases)
  func `A close counts what is folded, merged, appended and pending of each period once`(
    made: Made
  ) throws {
    let database = try database()
    try fill(database, made)
    let store = PeriodStore(try database.connection())
    // First one meter's period alone is closed, then a part of the rest, then the rest.
    let alone = try #require(PeriodID("lic_one:a:2025-01-09"))
    #expect(try store.closeOne(alone, request("2025-03-31")).outcome == .closed)
    #expect(try closed(database) == ["lic_one a 2025-01-09 2025-02-09 2345 1111"])
    #expect(try store.close(request("2025-02-01")).closed == 4)
    #expect(try store.close(request("2025-03-31")).closed == 7)
    #expect(try closed(database) == Self.march.sorted())
    #expect(
      try database.rows(
        "select included, overage from usage_period_closed where license_id = 'lic_31' "
          + "and period_start = '2025-01-31'") == [["100", "4590"]])
    // Open periods stay as they were, and what comes now is late.
    try use(database, 6, events: 1)
    _ = try database.rows("select usage_merge('{0}')")
    #expect(try store.close(request("2025-04-30")).closed == 7)
    #expect(
      try database.rows(
        """
        select sum(quantity), sum(event_count), count(*) from (
          select quantity, event_count from usage_period_closed where period_end > '2025-03-31'
          union all
          select quantity, event_count from usage_adjustment_entry) x
        """) == [["\(2 * 2351 + 14 * 6)", "\(2 * 1112 + 14)", "\(7 + 12)"]])
    if made == .all { try checkInvariant(database) }
  }

  @Test func `Totals that are made between two steps of a close change no number`() throws {
    let database = try database()
    try fill(database, .all)
    // This is the state on the day of the upgrade that brings the totals.
    try database.execute(
      """
      delete from usage_license_period;
      delete from usage_customer_day;
      delete from usage_delta;
      update usage_total_state set is_complete = false, made_through = '', installed_by = '1'
      """)
    let store = PeriodStore(try database.connection())
    let request = request("2025-03-31")
    let close = try store.begin(request)
    var (after, steps): (String?, Int) = ("", 0)
    while let next = after {
      after = try store.closeNext(close, after: next, request, most: 1).last
      // The totals are made faster than periods are closed at first, and slower later.
      if steps % 2 == 0 { _ = try database.rows("select usage_fold(4)") }
      steps += 1
    }
    #expect(steps == 6)
    #expect(try closed(database) == Self.march.sorted())
    try Self.makeTotals(database)
    try checkInvariant(database)
  }

  @Test func `A close reads no days, and walks over no table that grows with the years`() throws {
    let database = try TestDatabase()
    try Made.all.set(database)
    // There are years of closed periods, but none of a license that is closed now.
    try database.execute(
      """
      insert into customer (customer_id, name) values ('cus_0', 'a');
      insert into license (license_id, customer_id, plan, issued_at, expires_at)
      select 'lic_' || n, 'cus_0', 'p', now(), now() + interval '1 year'
      from generate_series(1, 3000) n;
      insert into license_billing_anchor select license_id, '-infinity', 1 from license;
      insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
      select license_id, 'a', '2025-01-01'::date + d, 1, 1, ''
      from license, generate_series(0, 9) d;
      insert into usage_license_period
      select license_id, 'a', '2025-01-01', '2025-02-01', 10, 10 from license;
      insert into usage_period_closed
      select license_id, 'a', '2020-01-01'::date + m * 31, '2020-02-01'::date + m * 31, 1, 1, null, 0,
        'cus_0', now(), 1 from license, generate_series(0, 3) m;
      insert into license_closing
      select license_id, '2025-01-01', '2025-01-01', 1, now() from license;
      insert into usage_late
      select license_id, 'a', period_start, period_end, 1, 1, 1, 1, '' from usage_period_closed;
      insert into usage_adjustment_entry (adjustment_id, license_id, meter, applies_to_period_start,
        invoiced_period_start, kind, quantity, event_count, reason, recorded_by)
      select 'x' || n, 'lic_' || n, 'a', '2020-01-01', '2020-02-01', 'late', 1, 1, '', 'test'
      from generate_series(1, 3000) n;
      analyze
      """)
    let connection = try database.connection()
    let store = PeriodStore(connection)
    let request = request("2025-02-01")
    let close = try store.begin(request)
    // The statistics of a transaction also count what earlier ones have not reported yet. Planning
    // looks at the ends of an index.
    try connection.execute("select pg_stat_force_next_flush()")
    try connection.execute("begin")
    #expect(try store.closeNext(close, after: "lic_1", request, most: 100).closed == 100)
    let accesses = try connection.query(
      """
      select relname from pg_stat_xact_user_tables where schemaname = 'public' and seq_tup_read
        + case when relname like 'usage_day%' then coalesce(idx_tup_fetch, 0) else 0 end > 500
      """)
    try connection.execute("commit")
    #expect(accesses.rows == [])
  }

  @Test func `A close waits for the combining only if something of its periods is appended`() throws
  {
    let database = try TestDatabase()
    try Made.all.set(database)
    try database.addLicense("lic_1")
    func use(_ month: String) throws {
      _ = try database.rows(
        """
        insert into usage_pending
        values (1, 0, 'lic_1', 'a', ($1 || '-05 05:00Z')::timestamptz, 7, 9, 2, 1, '[3,2,1]', '')
        """, [.text(month)])
      _ = try database.rows("select usage_merge('{0}')")
    }
    try use("2025-01")
    try MergeKind.appending.set(database)
    try use("2025-02")
    let combining = TestDatabase(url: database.url)
    try combining.execute("begin")
    _ = try combining.rows("select pg_advisory_xact_lock(usage_combine_lock_key())")
    try database.execute("set lock_timeout = '200ms'")
    let store = PeriodStore(try database.connection())
    let request = request("2025-03-01")
    let close = try store.begin(request)
    #expect(
      try store.closeNext(close, after: "", self.request("2025-02-01"), most: 10).closed == 1)
    let error = #expect(throws: PostgresError.self) {
      _ = try store.closeNext(close, after: "", request, most: 10)
    }
    #expect(error?.sqlState == "55P03")
    try combining.execute("commit")
    #expect(try store.closeNext(close, after: "", request, most: 10).closed == 1)
    #expect(
      try closed(database) == [
        "lic_1 a 2025-01-01 2025-02-01 2 1", "lic_1 a 2025-02-01 2025-03-01 2 1",
      ])
    #expect(try database.integer("select count(*) from usage_appended") == 0)
  }
}
