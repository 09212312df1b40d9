import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// The plans of the metering API's reads. None of them walks over a big table.
@Suite struct ReadPlanTests {
  /// 3,000 licenses of thirty customers, with 40 days and as many hours each.
  private static func filled() throws -> TestDatabase {
    let database = try TestDatabase()
    try database.execute(
      """
      insert into customer (customer_id, name) select 'cus_' || c, 'c' from generate_series(0, 29) c;
      insert into license (license_id, customer_id, plan, issued_at, expires_at)
      select 'lic_' || n, 'cus_' || n % 30, 'p', now(), now() + interval '1 year'
      from generate_series(0, 2999) n;
      insert into license_billing_anchor select license_id, '-infinity', 9 from license;
      insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset,
        last_offset, quantity, event_count, minutes)
      select 'lic_' || n, 'a', date_trunc('hour', now()) - make_interval(hours => h), 1, 0, 1, 2, 1,
        1, '[1,1,1]' from generate_series(0, 39) h, generate_series(0, 2999) n;
      insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
      select 'lic_' || n, 'a', now()::date - d, 1, 1, '["domain","a.example",1,1]'
      from generate_series(0, 39) d, generate_series(0, 2999) n;
      """)
    try eventually("the totals are made") {
      _ = try database.rows("select usage_fold(50000)")
      return try database.integer("select count(*) from usage_total_state where is_complete") == 1
    }
    // These periods ended long ago, so that the open ones are only a part of all.
    try database.execute(
      """
      insert into usage_license_period
      select license_id, 'old', '2020-01-01'::date + m * 31, '2020-02-01'::date + m * 31, 1, 1
      from license, generate_series(0, 11) m;
      analyze
      """)
    return database
  }

  @Test func `The metering API's reads reach indexes and partitions`() throws {
    let database = try Self.filled()
    let reads = [
      "usage_minutes('lic_7', now() - interval '1 hour', now())",
      "customer_days_by_totals('cus_7', now()::date - 30, now()::date)",
      "customer_days_by_days('cus_7', now()::date - 30, now()::date)",
      "customer_periods_by_totals('cus_7', now()::date - 60, now()::date + 1)",
      "periods_of_day_by_totals(now()::date)",
      "usage_by_period where license_id = 'lic_7'",
      "usage_hour_minutes where license_id = 'lic_7' and hour >= now() - interval '2 hours'",
      "usage_by_hour where license_id = 'lic_7' and bucket_start >= now() - interval '2 hours'",
    ]
    for read in reads {
      let plan = try database.rows("explain select * from \(read)").map { $0[0]! }
      let walks = plan.filter {
        $0.contains("Seq Scan on usage_hour_2") || $0.contains("Seq Scan on usage_day_2")
          || $0.contains("Seq Scan on usage_license_period")
          || $0.contains("Seq Scan on usage_customer_day")
      }
      let isBig = try walks.filter { line in
        let words = line.split(separator: " ")
        guard let at = words.lastIndex(of: "on") else { return true }
        return try database.integer("select pg_relation_size('\(words[at + 1])') / 8192") ?? 0 > 20
      }
      #expect(isBig == [], "\(read)\n\(plan.joined(separator: "\n"))")
    }
    // The month that most of the days are in. It has at least 20 of them, whatever day it is.
    let month = try database.rows(
      """
      select min(day) - date '1970-01-01', max(day) + 1 - date '1970-01-01' from usage_day
      group by date_trunc('month', day) order by count(*) desc limit 1
      """
    )[0].map { Int64($0 ?? "") ?? 0 }
    try checkUsage(
      UsageStore(PostgresConnection(url: database.url, application: "test")),
      days: month[0]..<month[1])
  }

  /// A customer's days and a license's hours are found in one walk over each index, and only in the
  /// requested months. The many licenses of many customers are looked up one by one. The rows are
  /// the same.
  private func checkUsage(_ store: UsageStore, days: Range<Int64>) throws {
    let bounds = (days.lowerBound...days.upperBound).map { $0 * 86_400 }
    var byDay = UsageStore.Question(
      windows: .bounds(UsageStore.Runs(days: [days], hours: [], minutes: [], bounds: bounds)))
    byDay.customers = ["cus_7"]
    let plan = try store.plan(byDay, limit: 10_001)
    let text = plan.joined(separator: "\n")
    #expect(text.contains("Bitmap Heap Scan on usage_day_2"), "\(text)")
    #expect(!text.contains("Seq Scan on usage_day_2"), "\(text)")
    #expect(!text.contains("usage_day_default"), "\(text)")

    let hours = ((days.upperBound - 1) * 86_400)..<(days.upperBound * 86_400)
    var byHour = UsageStore.Question(
      windows: .bounds(
        UsageStore.Runs(
          days: [], hours: [hours], minutes: [], bounds: [hours.lowerBound, hours.upperBound])))
    byHour.licenses = ["lic_7"]
    let hourPlan = try store.plan(byHour, limit: 1_001).joined(separator: "\n")
    #expect(!hourPlan.contains("Seq Scan on usage_hour_2"), "\(hourPlan)")
    #expect(!hourPlan.contains("usage_hour_default"), "\(hourPlan)")

    let few = try store.rows(byDay, limit: 10_001)
    #expect(few.count == 100 * days.count)
    byDay.customers = (0..<30).map { Identifier("cus_\($0)") }
    let many = try store.plan(byDay, limit: 100_001).joined(separator: "\n")
    #expect(many.contains("Nested Loop"), "\(many)")
    let all = try store.rows(byDay, limit: 100_001)
    #expect(all.count == 3_000 * days.count)
    #expect(all.filter { $0.customer == "cus_7" } == few)
  }

  @Test func `A condition on the hour prunes the partitions of other months`() throws {
    let database = try TestDatabase()
    let plan = try database.rows(
      """
      explain select * from usage_by_hour where license_id = 'lic_7'
        and bucket_start >= date_trunc('month', now(), 'UTC')
        and bucket_start < date_trunc('month', now(), 'UTC') + interval '1 month'
      """
    ).map { $0[0]! }.joined(separator: "\n")
    #expect(plan.contains("Subplans Removed"), "\(plan)")
  }

  /// `meterctl reconcile` compares the minutes of a range of hours.
  @Test func `A condition on the hour of minutes prunes the partitions of other months`() throws {
    let plan = try TestDatabase().rows(
      """
      explain select * from usage_hour_minutes where hour >= date_trunc('month', now(), 'UTC')
        and hour < date_trunc('month', now(), 'UTC') + interval '1 month'
      """
    ).map { $0[0]! }.joined(separator: "\n")
    #expect(plan.contains("Subplans Removed"), "\(plan)")
  }

  @Test func `Anchors are computed within the statement`() throws {
    let database = try TestDatabase()
    let plan = try database.rows(
      "explain (verbose, costs off) select last_anchor(day, 3), next_anchor(day, 3) from usage_day"
    ).map { $0[0]! }.joined()
    #expect(!plan.contains("last_anchor") && !plan.contains("next_anchor"), "\(plan)")
  }
}
