import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// The two ways in which merges write: small ones into the hour and day rows, large ones by
/// appending.
enum MergeKind: CaseIterable, CustomTestStringConvertible {
  case settling
  case appending

  var testDescription: String { self == .settling ? "settling" : "appending" }

  /// Makes merges of any size append. Each walk then combines the keys that have more than one row.
  func set(_ database: TestDatabase) throws {
    guard self == .appending else { return }
    try database.execute(
      "update usage_append_state set least_rows = 0, key_rows = 2, walk_merges = 1")
  }
}

/// Where flushes write: large ones to `usage_pending`, small ones to `usage_pending_recent`.
enum PendingTable: String, CaseIterable {
  case large = "usage_pending"
  case recent = "usage_pending_recent"

  /// Tests of both tables write even partitions by large flushes and odd ones by small flushes.
  static func of(partition: Int) -> String { (partition % 2 == 0 ? large : recent).rawValue }
}

/// Merges that append, and the walk that combines what they appended.
@Suite struct AppendingMergeTests {
  private func database(registered: Int = 6) throws -> TestDatabase {
    let database = try TestDatabase()
    try database.execute("insert into customer (customer_id, name) values ('cus_1', 'a')")
    try database.execute(
      """
      insert into license (license_id, customer_id, plan, domains, issued_at, expires_at)
      select 'lic_' || n, 'cus_1', 'p', '{a.example}', now(), now() + interval '1 year'
      from generate_series(0, \(registered - 1)) n;
      insert into license_billing_anchor select license_id, '-infinity', 9 from license;
      insert into license_limit select license_id, 'a', 30 from license
      """)
    try MergeKind.appending.set(database)
    return database
  }

  /// Three pending rows for each of eight licenses, two of which are unregistered.
  private func append(_ database: TestDatabase, hour: String, partition: Int = 0) throws {
    try database.execute(
      """
      insert into \(PendingTable.of(partition: partition))
      select 1, \(partition), 'lic_' || n, 'a', '\(hour)'::timestamptz, 10 + k, 20 + k, 2, 1,
        '[' || 5 + k || ',2,1]', '["domain","' || case k when 0 then 'a' else 'b' end || '.example",2,1]'
      from generate_series(0, 7) n, generate_series(0, 2) k
      """)
  }

  private func merge(_ database: TestDatabase, isolate: Bool = false) throws {
    _ = try database.rows("select usage_merge('{0,1}', \(isolate))")
  }

  private func appended(_ database: TestDatabase) throws -> Int64? {
    try database.integer("select count(*) from usage_appended")
  }

  /// Runs the first batch of a walk that takes every row.
  private func combine(_ database: TestDatabase, most: Int = 100_000) throws {
    try database.execute(
      "update usage_append_state set walked_through = null, began = '-infinity', key_rows = 1")
    _ = try database.rows("select usage_combine(\(most))")
  }

  private static let readers = [
    "usage_by_minute", "usage_by_hour", "usage_by_day", "usage_by_dimension_day", "usage_by_period",
    "usage_provenance", "billing_usage_by_hour", "billing_usage_by_day", "billing_usage_by_period",
    "usage_total_by_period", "usage_total_by_customer_day", "usage_adjustment",
    "customer_days_by_days('cus_1', '2025-01-01', '2025-12-01')",
    "customer_days_by_totals('cus_1', '2025-01-01', '2025-12-01')",
    "customer_periods_by_days('cus_1', '2025-01-01', '2025-12-01')",
    "customer_periods_by_totals('cus_1', '2025-01-01', '2025-12-01')",
    "usage_minutes('lic_3', '2025-03-01 10:00Z', '2025-03-01 12:00Z')",
    "usage_watch_totals('2025-03-01 11:00Z')",
    "period_domains('lic_3', 'a', '2025-02-09', '2025-03-09')",
    "period_domains('lic_3', 'a', '2025-01-09', '2025-02-09')",
  ]

  /// What every reader answers in one snapshot.
  private func answers(_ database: TestDatabase) throws -> [String: [String]] {
    let connection = try database.connection()
    return try connection.transaction("begin isolation level repeatable read read only") {
      var found: [String: [String]] = [:]
      for reader in Self.readers {
        found[reader] = try connection.query("select r::text from \(reader) r order by 1").rows
          .map { $0[0] ?? "-" }
      }
      return found
    }
  }

  private func expect(_ found: [String: [String]], _ expected: [String: [String]], _ what: Comment)
  {
    for reader in Self.readers where found[reader] != expected[reader] {
      Issue.record("\(reader), \(what): \(found[reader] ?? []) and not \(expected[reader] ?? [])")
    }
  }

  @Test func `Every reader answers the same before a merge, after it and while rows are combined`()
    throws
  {
    let database = try database()
    // Some of it is late.
    try append(database, hour: "2025-02-01 10:00Z")
    try merge(database)
    let store = PeriodStore(try database.connection())
    _ = try store.close(PeriodStore.CloseRequest(endingBefore: "2025-03-01", closedBy: "test"))
    try append(database, hour: "2025-02-02 10:00Z")
    for (round, hour) in ["2025-03-01 10:00Z", "2025-03-01 11:00Z", "2025-03-02 10:00Z"]
      .enumerated()
    {
      try append(database, hour: hour, partition: round % 2)
      // The same key comes again.
      try append(database, hour: "2025-03-01 11:00Z")
    }
    var expected = try answers(database)
    #expect(expected.values.allSatisfy { !$0.isEmpty })
    // A late adjustment has a fixed time only once it is merged.
    expected["usage_adjustment"] = nil
    try merge(database)
    #expect(try database.integer("select count(*) from only usage_pending") == 0)
    // Three days, one of which has two hours. One of these hours comes from two partitions.
    #expect(try appended(database) == 8 * 5)
    let merged = try answers(database)
    expected["usage_adjustment"] = merged["usage_adjustment"]
    expect(merged, expected, "appended")
    while try appended(database) ?? 0 > 0 {
      // Another process sees none of it until it is committed.
      let other = TestDatabase(url: database.url)
      try other.execute("begin")
      try combine(other, most: 8)
      expect(try answers(database), expected, "in the middle of combining")
      try other.execute("commit")
      expect(try answers(database), expected, "behind a batch")
    }
    #expect(try database.integer("select sum(event_count)::bigint from usage_hour") == 8 * 3 * 8)
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_day")
        == database.integer("select sum(event_count)::bigint from usage_hour"))
  }

  @Test func `A walk that is killed anywhere loses and doubles nothing and is taken up again`()
    throws
  {
    let database = try database()
    for hour in 1...4 {
      try append(database, hour: "2025-03-01 1\(hour):00Z")
      try merge(database)
    }
    let expected = try answers(database)
    for most in [1, 5, 40, 1_000] {
      let dying = TestDatabase(url: database.url)
      try dying.execute("begin")
      try combine(dying, most: most)
      let pid = try #require(try dying.integer("select pg_backend_pid()"))
      _ = try database.rows("select pg_terminate_backend(\(pid))")
      try eventually("it is gone") {
        try database.integer("select count(*) from pg_stat_activity where pid = \(pid)") == 0
      }
      expect(try answers(database), expected, "killed behind \(most)")
      #expect(try appended(database) == 32)
    }
    while try appended(database) ?? 0 > 0 { try combine(database, most: 5) }
    expect(try answers(database), expected, "combined")
  }

  @Test func `Neither a merge nor a reader waits for the combining, nor it for a merge`() throws {
    let database = try database()
    try append(database, hour: "2025-03-01 11:00Z")
    try merge(database)
    // From now on, merges of this size write hour and day rows.
    try database.execute(
      "update usage_append_state set least_rows = 1000; set lock_timeout = '1s'")
    let other = TestDatabase(url: database.url)
    try other.execute("begin")
    try combine(other)
    // This does not apply to a merge that would wait for rows that are being combined.
    try append(database, hour: "2025-03-01 11:00Z")
    try merge(database)
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_by_day") == 48)
    try other.execute("commit")
    #expect(try appended(database) == 8)
    // While a merge writes hour and day rows, nothing is combined.
    try append(database, hour: "2025-03-01 11:00Z")
    try other.execute("begin")
    try merge(other)
    #expect(try database.integer("select usage_combine(1000)") == 0)
    try other.execute("commit")
    #expect(try appended(database) == 8)
    try combine(database)
    #expect(try appended(database) == 0)
    #expect(try database.integer("select sum(event_count)::bigint from usage_hour") == 72)
  }

  @Test func `A license that every merge appends to has few rows in an hour that goes on`() throws {
    let database = try database()
    try database.execute(
      "update usage_append_state set key_rows = default, walk_merges = default")
    var most: Int64 = 0
    for _ in 0..<150 {
      try append(database, hour: "2125-03-01 11:00Z")
      try merge(database)
      _ = try database.rows("select usage_fold(1000)")
      most = max(most, try appended(database) ?? 0)
    }
    #expect(most <= 8 * 32)
    #expect(try database.integer("select sum(event_count)::bigint from usage_by_hour") == 3_600)
    // Nothing more comes, so the rest is combined before the hour is over.
    for _ in 0..<10 where try appended(database) ?? 0 > 0 {
      try database.execute(
        """
        update usage_append_state set seen = (select last_value from usage_append_count),
          seen_at = now() - interval '6 seconds'
        """)
      _ = try database.rows("select usage_fold(1000)")
    }
    #expect(try appended(database) == 0)
  }

  @Test func `A day that no longer fits is set aside by a merge that appends as well`() throws {
    let database = try database()
    func use(_ license: String, _ quantity: Int64) throws {
      try database.execute(
        """
        insert into usage_pending values (1, 0, '\(license)', 'a', '2025-03-01 11:00Z', 1, 1,
          \(quantity), 1, '[5,\(quantity),1]', '')
        """)
    }
    try use("lic_0", 60_000_000_000_000_000)
    try merge(database)
    #expect(try appended(database) == 1)
    try use("lic_0", 60_000_000_000_000_000)
    try use("lic_1", 1)
    let error = try #require(throws: PostgresError.self) { try merge(database) }
    #expect(error.sqlState == "23514")
    try merge(database, isolate: true)
    #expect(try database.rows("select license_id from usage_quarantine") == [["lic_0"]])
    #expect(
      try database.integer("select quantity from usage_by_day where license_id = 'lic_0'")
        == 60_000_000_000_000_000)
    // If small amounts have passed nevertheless, only that license waits.
    try use("lic_2", 1)
    try merge(database)
    try database.execute(
      """
      insert into usage_appended values (1, 0, 'lic_0', 'a', '2025-03-01 11:00Z', 1, 1,
        50000000000000000, 1, '[5,50000000000000000,1]', '')
      """)
    try combine(database)
    #expect(try database.rows("select distinct license_id from usage_appended") == [["lic_0"]])
    #expect(try database.integer("select quantity from usage_day where license_id = 'lic_2'") == 1)
    #expect(
      try database.integer("select quantity from usage_by_day where license_id = 'lic_0'")
        == 110_000_000_000_000_000)
  }

  @Test func `Reads of a license reach what is appended by its index`() throws {
    let database = try database()
    try database.execute(
      """
      insert into usage_appended
      select 1, 0, 'lic_' || n, 'a', '2025-03-01 00:00Z'::timestamptz + make_interval(hours => h), 1, 2,
        1, 1, '[5,1,1]', '["domain","a.example",1,1]'
      from generate_series(0, 2999) n, generate_series(0, 9) h;
      analyze usage_appended
      """)
    for read in [
      "usage_minutes('lic_7', '2025-03-01 01:00Z', '2025-03-01 02:00Z')",
      "usage_by_hour where license_id = 'lic_7'", "usage_by_period where license_id = 'lic_7'",
      "usage_by_dimension_day where license_id = 'lic_7'",
      "billing_usage_by_day where customer_id = 'cus_1'", "usage_folded('{lic_7}')",
    ] {
      let plan = try database.rows("explain select * from \(read)").map { $0[0]! }
        .joined(separator: "\n")
      #expect(!plan.contains("Seq Scan on usage_appended"), "\(read)\n\(plan)")
    }
  }

  @Test func `A day that no longer fits does not stop the close of other licenses`() throws {
    let database = try database()
    for license in ["lic_0", "lic_1"] {
      try database.execute(
        """
        insert into usage_appended
        select 1, n, '\(license)', 'a', '2025-03-01 11:00Z', 1, 1, 60000000000000000, 1,
          '[5,60000000000000000,1]', ''
        from generate_series(0, \(license == "lic_0" ? 1 : 0)) n
        """)
    }
    let closed = try PeriodStore(try database.connection()).close(
      PeriodStore.CloseRequest(endingBefore: "2025-05-01", closedBy: "test"))
    #expect(closed.closed >= 1)
    #expect(
      try database.integer("select quantity from usage_day where license_id = 'lic_1'")
        == 60_000_000_000_000_000)
    #expect(try database.rows("select distinct license_id from usage_appended") == [["lic_0"]])
  }
}
