import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// Closes that are cut off, that meet each other, or that meet merges which die.
@Suite struct ClosingFaultTests {
  private static let licenses = 12

  /// - Parameter registered: how many of the licenses are registered.
  private func database(registered: Int = licenses) throws -> TestDatabase {
    let database = try TestDatabase()
    try database.execute(
      """
      insert into customer (customer_id, name) values ('cus_0', 'a'), ('cus_1', 'b');
      insert into license (license_id, customer_id, plan, issued_at, expires_at)
      select 'lic_' || n, 'cus_' || n % 2, 'p', '2024-01-01 00:00Z', now() + interval '1 year'
      from generate_series(0, \(registered - 1)) n;
      insert into license_billing_anchor select license_id, '-infinity', 1 + length(license_id) % 28
      from license;
      insert into license_limit select license_id, 'a', 20 from license;
      create table appended (events bigint not null)
      """)
    try eventually("the totals are made") {
      _ = try database.rows("select usage_fold(1000)")
      return try database.integer("select count(*) from usage_total_state where is_complete") == 1
    }
    return database
  }

  /// Appends pending rows of all licenses from January to March 2025, and notes how many events
  /// they have.
  private static func append(_ partition: Int) -> String {
    """
    with added as (
      insert into \(PendingTable.of(partition: partition))
      select 1, \(partition), 'lic_' || (random() * \(licenses - 1))::int,
        case when random() < 0.8 then 'a' else 'b' end,
        '2025-01-01 00:00Z'::timestamptz + make_interval(hours => (random() * 2100)::int),
        1, 2, 3, 1, '[5,3,1]', '["domain","a.example",3,1]' from generate_series(1, 12) n
      returning event_count
    ) insert into appended select sum(event_count) from added
    """
  }

  private func request(_ day: String, by: String = "test") -> PeriodStore.CloseRequest {
    PeriodStore.CloseRequest(endingBefore: day, closedBy: by)
  }

  private func check(_ database: TestDatabase, _ what: String = "") throws {
    let connection = try database.connection()
    let differences = try connection.transaction(
      "begin isolation level repeatable read read only"
    ) { try ClosingInvariant.differences(connection) }
    #expect(differences.prefix(3) == [], "\(what)")
  }

  /// Closed rows as texts by their ids.
  private func closedRows(_ database: TestDatabase) throws -> [String: String] {
    let rows = try database.rows(
      """
      select period_id, concat_ws(' ', period_end, quantity, event_count, closed_at, included, overage)
      from usage_by_period where closed_at is not null and event_count > 0
      """)
    return Dictionary(uniqueKeysWithValues: rows.map { ($0[0]!, $0[1]!) })
  }

  @Test func `A close that ends after any of its statements is continued by the next`() throws {
    for statements in [0, 1, 2, 5, Self.licenses, Self.licenses + 1] {
      let database = try database()
      try database.execute(Self.append(0))
      _ = try database.rows("select usage_merge('{0}')")
      try database.execute(Self.append(1))
      let request = request("2025-03-01")
      do {
        let cutOff = PeriodStore(try PostgresConnection(url: database.url, application: "test"))
        let close = try cutOff.begin(request)
        var after = ""
        for _ in 0..<statements {
          guard let last = try cutOff.closeNext(close, after: after, request, most: 1).last else {
            break
          }
          after = last
        }
      }
      try check(database, "cut off behind \(statements)")
      let before = try closedRows(database)
      try database.execute(Self.append(0))
      try check(database, "events behind \(statements)")
      let result = try PeriodStore(database.connection()).close(request)
      let after = try closedRows(database)
      #expect(before.allSatisfy { after[$0.key] == $0.value }, "a closed row changed")
      #expect(result.closed + result.alreadyClosed == Int64(after.count), "\(statements)")
      try check(database, "continued behind \(statements)")
      let again = try PeriodStore(database.connection()).close(request)
      #expect(again.closed == 0 && again.alreadyClosed >= Int64(after.count))
    }
  }

  @Test func `The rows that a dying merge leaves behind are closed with their period`() throws {
    let database = try database()
    try database.execute(Self.append(0))
    let events = try #require(
      try database.integer("select sum(event_count)::bigint from usage_pending"))
    let url = database.url
    let merging = TestDatabase(url: url)
    try merging.execute("begin")
    _ = try merging.rows("select usage_merge('{0}')")
    let pid = try #require(try merging.integer("select pg_backend_pid()"))
    let closing = Thread.value {
      try PeriodStore(TestDatabase(url: url).connection()).close(self.request("2025-06-01"))
    }
    try eventually("the close waits for the merge") {
      try database.integer(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted "
          + "and database = (select oid from pg_database where datname = current_database())") == 1
    }
    try check(database, "while the close waits")
    _ = try database.rows("select pg_terminate_backend(\(pid))")
    _ = try closing.get()
    #expect(
      try database.integer(
        "select sum(event_count)::bigint from usage_by_period where closed_at is not null")
        == events)
    #expect(try database.integer("select count(*) from usage_adjustment") == 0)
    try check(database)
  }

  @Test func `A flush waits for no close, and what it commits meanwhile is late`() throws {
    let database = try database()
    try database.execute(Self.append(0))
    let closing = try PostgresConnection(url: database.url, application: "test")
    let store = PeriodStore(closing)
    let request = request("2025-06-01")
    let close = try store.begin(request)
    try closing.execute("begin")
    _ = try store.closeNext(close, after: "", request, most: 1_000)
    // If the flush waited for a lock, it would be refused.
    try database.execute("set lock_timeout = '1s'; set statement_timeout = '20s'")
    try database.execute(Self.append(1))
    try check(database, "before the close is committed")
    try closing.execute("commit")
    try check(database, "behind the close")
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_adjustment") == 12)
    _ = try database.rows("select usage_merge('{1}')")
    try check(database, "merged")
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_adjustment") == 12)
  }

  @Test func `A manual adjustment waits for a close that runs, and goes on the next invoice`()
    throws
  {
    let database = try database()
    try database.execute(Self.append(0))
    let closing = try PostgresConnection(url: database.url, application: "test")
    let store = PeriodStore(closing)
    let request = request("2025-06-01")
    let close = try store.begin(request)
    try closing.execute("begin")
    _ = try store.closeNext(close, after: "", request, most: 1_000)
    let url = database.url
    let period = try #require(
      try database.rows("select period_id from usage_by_period order by 1 limit 1").first?[0]
        .flatMap { PeriodID($0) })
    let adjusting = Thread.value {
      try AdjustmentStore(TestDatabase(url: url).connection()).adjust(
        AdjustmentStore.Adjustment(
          license: period.license, meter: period.meter, appliesTo: period.start, quantity: -1,
          reason: "agreed", recordedBy: "test"))
    }
    try eventually("the adjustment waits") {
      try database.integer(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted "
          + "and database = (select oid from pg_database where datname = current_database())") == 1
    }
    try closing.execute("commit")
    _ = try adjusting.get()
    #expect(
      try database.integer(
        "select count(*) from usage_adjustment where invoiced_period_start >= '2025-05-01'") == 1)
  }

  @Test(arguments: MergeKind.allCases)
  func `Sums agree while closes, merges, folds and adjustments run and are killed`(
    kind: MergeKind
  ) async throws {
    let database = try database(registered: 10)
    try kind.set(database)
    let url = database.url
    let days = (1...12).map { "2025-0\(1 + $0 / 4)-\(["01", "08", "15", "22"][$0 % 4])" }
    // A connection that was ended is opened again.
    @Sendable func tolerant(_ body: () throws -> Void) throws {
      do { try body() } catch let error as PostgresError where error.isRetriable {}
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for partition in 0..<2 {
        group.addTask {
          let own = TestDatabase(url: url)
          for _ in 0..<40 {
            try tolerant { try own.execute(Self.append(partition)) }
            try tolerant { _ = try own.rows("select usage_merge('{\(partition)}')") }
          }
        }
        group.addTask {
          let own = TestDatabase(url: url)
          for day in days {
            try tolerant {
              let request = self.request(day, by: "closer \(partition)")
              let store = PeriodStore(try own.connection())
              let close = try store.begin(request)
              var after: String? = ""
              while let next = after {
                after = try store.closeNext(close, after: next, request, most: 3).last
              }
            }
          }
        }
      }
      group.addTask {
        let own = TestDatabase(url: url)
        for n in 0..<40 {
          try tolerant { _ = try own.rows("select usage_fold(15)") }
          try tolerant {
            _ = try own.rows(
              """
              select a.* from period_of('lic_\(n % 12)', '2025-01-01'::date + \(n * 2)) p,
                usage_adjust('lic_\(n % 12)', 'a', p.first_day, \(n) - 20, 0, 'agreed', 'test', null) a
              """)
          }
        }
      }
      group.addTask {
        let own = TestDatabase(url: url)
        var seen: [String: String] = [:]
        for _ in 0..<25 {
          try self.check(own, "in the storm")
          let rows = try self.closedRows(own)
          #expect(seen.allSatisfy { rows[$0.key] == $0.value }, "a closed row changed")
          seen = rows
          _ = try own.rows(
            """
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and state = 'active' and pid <> pg_backend_pid()
              and query ~ 'usage_close_next|usage_merge|usage_fold|usage_adjust' and random() < 0.5
            """)
        }
      }
      try await group.waitForAll()
    }
    try check(database, "behind the storm")
    _ = try database.rows("select usage_merge('{0,1}')")
    _ = try PeriodStore(database.connection()).close(request("2025-06-01"))
    try check(database, "closed")
    #expect(
      try database.rows(
        """
        select sum(c.closed) between (select count(*) from usage_period_closed where event_count > 0)
          and (select count(*) from usage_period_closed) from usage_close c
        """) == [["t"]])
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_by_day")
        == database.integer("select sum(events)::bigint from appended"))
  }
}

/// A thread's answer. Waiting for a lock blocks, and the pool of tasks has few threads.
private final class ThreadResult<T: Sendable>: @unchecked Sendable {
  // This is written once, before `done` is signaled.
  private var result: Result<T, any Error>?
  private let done = DispatchSemaphore(value: 0)

  func run(_ body: @escaping @Sendable () throws -> T) {
    Thread { [self] in
      result = Result { try body() }
      done.signal()
    }.start()
  }

  func get() throws -> T {
    done.wait()
    defer { done.signal() }
    return try result!.get()
  }
}

extension Thread {
  fileprivate static func value<T: Sendable>(
    _ body: @escaping @Sendable () throws -> T
  ) -> ThreadResult<T> {
    let result = ThreadResult<T>()
    result.run(body)
    return result
  }
}
