import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// Limits are judged by merges and sweeps, in SQL.
@Suite struct LimitTests {
  private static let changes = [
    "update license_limit set quantity = 50 + (random() * 5000)::int",
    "update license set alert_thresholds = array[80, 100]",
    "delete from license_limit",
    "insert into license_limit values ('lic_1', 'api_calls', 1000) on conflict do nothing",
  ]

  private func database(limit: Int64? = 100, anchorDay: Int = 1) throws -> TestDatabase {
    let database = try TestDatabase()
    try database.addLicense("lic_1", anchorDay: anchorDay)
    if let limit { try set(limit, database) }
    return database
  }

  private func set(_ limit: Int64, _ database: TestDatabase) throws {
    _ = try database.rows(
      """
      insert into license_limit values ('lic_1', 'api_calls', $1::bigint)
      on conflict (license_id, meter) do update set quantity = excluded.quantity
      """, [.integer(limit)])
    _ = try database.rows("select limit_sweep(100)")
  }

  /// Adds usage of today (or of another time) and merges it.
  private func use(
    _ quantity: Int64, _ database: TestDatabase, at time: String = "now()", partition: Int = 0
  ) throws {
    try append(quantity, database, at: time, partition: partition)
    _ = try database.rows("select usage_merge('{0,1}')")
  }

  private func append(
    _ quantity: Int64, _ database: TestDatabase, at time: String = "now()", partition: Int = 0
  ) throws {
    _ = try database.rows(
      """
      insert into \(PendingTable.of(partition: partition)) values (1, $2::int, 'lic_1', 'api_calls', date_trunc('hour', \(time)), 7, 9, $1::bigint, 1,
        '[5,' || $1 || ',1]', '')
      """, [.integer(quantity), .int(partition)])
  }

  /// The alerts as `approaching 80 of 100 at 80`, oldest first.
  private func alerts(_ database: TestDatabase) throws -> [String] {
    try database.rows(
      """
      select replace(type, 'license.limit_', '') || ' ' || (data->>'threshold_percent') || ' of ' || (data->>'limit')
        || ' at ' || (data->>'used')
      from alert where type like 'license.limit%' order by alert_id
      """
    ).map { $0[0]! }
  }

  @Test("Each threshold raises one alert, when it is reached, with its facts")
  func thresholds() throws {
    let database = try database()
    _ = try database.rows(
      "insert into webhook_endpoint (endpoint_id, customer_id, url) values ('ep_1', 'cus_test', 'https://a.example')"
    )
    try use(79, database)
    #expect(try alerts(database).isEmpty)
    try use(1, database)
    #expect(try alerts(database) == ["approaching 80 of 100 at 80"])
    try use(19, database)
    try use(1, database)
    try use(1, database)
    #expect(try alerts(database) == ["approaching 80 of 100 at 80", "exceeded 100 of 100 at 100"])
    let row = try database.rows(
      """
      select data->>'license_id', data->>'meter',
        (data->>'period_start')::timestamptz = p.period_start, (data->>'period_end')::timestamptz = p.period_end,
        customer_id, evidence->0->>'first_offset', d.status, (select is_over from limit_state)
      from alert a join webhook_delivery d using (alert_id), usage_by_period p where type = 'license.limit_exceeded'
      """)
    #expect(row == [["lic_1", "api_calls", "t", "t", "cus_test", "7", "pending", "t"]])
  }

  @Test
  func
    `A limit's alert names the trace of the last traced event that was merged, which is then gone`()
    throws
  {
    let database = try database()
    let connection = try database.connection()
    func trace(_ license: String, span: Int, offset: Int64) throws -> String {
      let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000\(span)-01"
      let statement = FlushStore.traces(
        epochs: [1], partitions: [0], licenses: [Identifier(license)], meters: ["api_calls"],
        offsets: [offset], traceparents: [text])
      _ = try connection.query(statement.sql, statement.parameters, operation: "append traces")
      return text
    }
    func evidence() throws -> [String?] {
      try database.rows("select evidence->0->>'traceparent' from alert order by alert_id").map {
        $0[0]
      }
    }
    // This is far from the limit, so there is no alert.
    _ = try trace("lic_1", span: 1, offset: 9)
    try use(10, database)
    #expect(try database.integer("select count(*) from usage_trace") == 0)
    // A license without a limit never raises an alert about one.
    _ = try trace("lic_2", span: 2, offset: 9)
    #expect(try database.integer("select count(*) from usage_trace") == 0)
    _ = try trace("lic_1", span: 3, offset: 8)
    let last = try trace("lic_1", span: 4, offset: 9)
    let later = try trace("lic_1", span: 5, offset: 10)
    try use(70, database)
    #expect(try evidence() == [last])
    // This trace belongs to a flush that came while the merge ran.
    #expect(try database.rows("select traceparent from usage_trace") == [[later]])
    #expect(
      try database.rows(
        "select key from alert, jsonb_object_keys(evidence->0) key order by key") == [
          ["first_offset"], ["last_offset"], ["log_epoch"], ["partition"], ["traceparent"],
        ])
    try use(20, database)
    #expect(try evidence() == [last, nil])
  }

  @Test("One merge raises all thresholds that it passes, and only the highest of further hundreds")
  func jump() throws {
    let database = try database()
    try use(570, database)
    #expect(
      try alerts(database) == [
        "approaching 80 of 100 at 570", "exceeded 100 of 100 at 570", "exceeded 500 of 100 at 570",
      ])
    try use(29, database)
    #expect(try alerts(database).count == 3)
    try use(1, database)
    #expect(try alerts(database).last == "exceeded 600 of 100 at 600")
  }

  @Test("A raised or lowered limit raises alerts again, and the same limit does not")
  func changedLimit() throws {
    let database = try database()
    try use(100, database)
    try set(110, database)
    #expect(try alerts(database).last == "approaching 80 of 110 at 100")
    #expect(try database.integer("select count(*) from limit_state where is_over") == 0)
    try set(100, database)
    #expect(try alerts(database).count == 3)
    #expect(try database.integer("select count(*) from limit_state where is_over") == 1)
    try set(50, database)
    #expect(
      Array(try alerts(database).dropFirst(3)) == [
        "approaching 80 of 50 at 100", "exceeded 100 of 50 at 100", "exceeded 200 of 50 at 100",
      ])
    try database.execute("delete from license_limit")
    _ = try database.rows("select limit_sweep(100)")
    try use(1_000, database)
    #expect(try alerts(database).count == 6)
    #expect(try database.integer("select count(*) from limit_state") == 0)
  }

  @Test("A license that is registered after its events is judged by all of them")
  func lateLicense() throws {
    let database = try TestDatabase()
    try use(100, database)
    try append(20, database)
    try database.addLicense("lic_1")
    try set(110, database)
    #expect(try alerts(database) == ["approaching 80 of 110 at 100"])
    _ = try database.rows("select usage_merge('{0,1}')")
    #expect(try alerts(database).last == "exceeded 100 of 110 at 120")
  }

  @Test("A license may have its own thresholds or none, and one call exceeds a limit of 0")
  func ownThresholds() throws {
    let database = try database()
    try database.execute("update license set alert_thresholds = '{50}'")
    _ = try database.rows("select limit_sweep(100)")
    try use(1_000, database)
    #expect(try alerts(database) == ["approaching 50 of 100 at 1000"])
    try database.execute("update license set alert_thresholds = '{}'")
    try set(10, database)
    #expect(try alerts(database).count == 1)
    let none = try self.database(limit: 0)
    #expect(try alerts(none).isEmpty)
    try use(0, none)
    #expect(try alerts(none).isEmpty)
    try use(1, none)
    try use(1, none)
    #expect(try alerts(none) == ["exceeded 100 of 0 at 1"])
  }

  @Test("Each period begins at 0, late events reach theirs, and old periods raise no alerts")
  func periods() throws {
    let database = try database()
    let start = "date_trunc('month', now(), 'UTC')"
    try use(100, database, at: "\(start) - interval '70 days'")
    #expect(try alerts(database).isEmpty)
    try use(80, database, at: start)
    try use(
      30, database, at: "\(start) - interval '1 hour'")
    #expect(try alerts(database) == ["approaching 80 of 100 at 80"])
    let day = try database.integer("select extract(day from now() at time zone 'UTC')::int")!
    try use(70, database, at: "\(start) - interval '1 hour'")
    // Alerts are raised up to a week after a period's end.
    #expect(try alerts(database).count == (day <= 8 ? 3 : 1))
    #expect(
      try database.rows("select used from limit_state order by period_start") == [["100"], ["80"]])
  }

  @Test("A new anchor day makes another period, judged by what was used in it")
  func anchor() throws {
    let database = try database()
    try use(90, database)
    let other = try database.integer(
      "select case when extract(day from now() at time zone 'UTC') > 14 then 3 else 20 end")!
    _ = try database.rows(
      "update license_billing_anchor set anchor_day = $1::int", [.integer(other)])
    _ = try database.rows("select limit_sweep(100)")
    #expect(
      try database.rows(
        """
        select s.used = p.quantity, s.period_start = (p.period_start at time zone 'UTC')::date,
          s.period_end = (p.period_end at time zone 'UTC')::date
        from limit_state s, usage_by_period p
        """) == [["t", "t", "t"]])
  }

  @Test(
    "The running sum equals the rows whatever merges and changes run at the same time",
    arguments: MergeKind.allCases)
  func concurrent(kind: MergeKind) async throws {
    let database = try database(limit: 1_000)
    try kind.set(database)
    let seed = SeededRandom.testSeed()
    print("limits: METER_TEST_SEED=\(seed)")
    try await withThrowingTaskGroup(of: Void.self) { group in
      for partition in 0..<2 {
        group.addTask {
          let own = TestDatabase(url: database.url)
          for _ in 0..<60 {
            try self.append(3, own, partition: partition)
            _ = try own.rows("select usage_merge('{\(partition)}')")
          }
        }
      }
      group.addTask {
        var random = SeededRandom(seed: seed)
        let own = TestDatabase(url: database.url)
        for _ in 0..<40 { try own.execute(Self.changes.randomElement(using: &random)!) }
        try own.execute(Self.changes.last!)
      }
      group.addTask {
        let own = TestDatabase(url: database.url)
        for _ in 0..<60 {
          _ = try own.rows("select limit_sweep(1)")
          _ = try own.rows("select usage_fold(10)")
        }
      }
      try await group.waitForAll()
    }
    _ = try database.rows("select limit_sweep(100)")
    #expect(try database.rows("select used from limit_state") == [["360"]])
    #expect(try database.integer("select count(*) - count(distinct dedupe_key) from alert") == 0)
  }

  @Test
  func
    `Manual adjustments and their counter-entries count toward the limit of their period`()
    throws
  {
    let database = try database()
    let start = try #require(
      try database.rows(
        "select first_day from period_of('lic_1', (now() at time zone 'UTC')::date)"
      )
      .first?[0])
    let store = AdjustmentStore(try database.connection())
    try use(70, database)
    let outcome = try store.adjust(
      AdjustmentStore.Adjustment(
        license: "lic_1", meter: "api_calls", appliesTo: start, quantity: 20, reason: "agreed",
        recordedBy: "test"))
    guard case .recorded(let id) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    _ = try database.rows("select limit_sweep(100)")
    #expect(try alerts(database) == ["approaching 80 of 100 at 90"])
    _ = try store.reverse(id, reason: "a mistake", recordedBy: "test")
    _ = try database.rows("select limit_sweep(100)")
    #expect(try database.rows("select used from limit_state") == [["70"]])
    try use(29, database)
    #expect(try alerts(database).count == 1)
    try use(1, database)
    #expect(try alerts(database).last == "exceeded 100 of 100 at 100")
  }

  @Test("An endpoint that is being deleted is left out, and fails no merge that raises an alert")
  func deletedEndpoint() async throws {
    let database = try database()
    _ = try database.rows(
      "insert into webhook_endpoint (endpoint_id, customer_id, url) values ('ep_1', 'cus_test', 'https://a.example')"
    )
    let other = TestDatabase(url: database.url)
    try database.execute("begin; delete from webhook_endpoint")
    let merging = Task { try self.use(100, other) }
    let watch = TestDatabase(url: database.url)
    try eventually("the merge waits") {
      try watch.integer(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
      ) == 1
    }
    try database.execute("commit")
    try await merging.value
    #expect(try alerts(database).count == 2)
    #expect(try database.integer("select count(*) from webhook_delivery") == 0)
  }

  @Test func `A state counts late events of any age as long as its period is kept`() throws {
    let today = "(now() at time zone 'UTC')::date"
    let days = try TestDatabase()
    let anchor = try days.integer("select extract(day from \(today) - 40)::int")!
    let database = try database(anchorDay: Int(anchor))
    // The period ended 40 days ago. The second event is older than the 45 days for which states are
    // kept.
    try use(50, database, at: "now() - interval '41 days'")
    try use(30, database, at: "now() - interval '60 days'")
    // A period that ended before that gets no state.
    try use(7, database, at: "now() - interval '120 days'")
    #expect(
      try database.rows("select used from limit_state where used > 0") == [["80"]])
    #expect(
      try database.integer(
        """
        select count(*) from limit_state s join usage_by_period p on p.license_id = s.license_id
          and (p.period_start at time zone 'UTC')::date = s.period_start where p.quantity <> s.used
        """) == 0)
  }

  @Test("States of periods that are long over are forgotten, and running ones stay")
  func retention() throws {
    let database = try database()
    try use(10, database)
    try use(20, database, at: "date_trunc('month', now(), 'UTC') - interval '1 hour'")
    #expect(try database.integer("select count(*) from limit_state") == 2)
    try database.execute(
      """
      update limit_state set period_start = period_start - 60, period_end = period_end - 60
      where used = 20
      """)
    #expect(try database.integer("select limit_states_retain()") == 1)
    #expect(try database.rows("select used from limit_state") == [["10"]])
  }
}
