import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// deploy/billing-reader.sql makes a role for people who use SQL. Roles belong to the server, so
/// the tests run one at a time.
@Suite(.serialized) struct BillingReaderTests {
  private static let views = [
    "billing_customer", "billing_license", "billing_usage_by_period", "billing_usage_by_day",
    "billing_usage_by_hour", "billing_usage_unregistered",
  ]

  private func database() throws -> TestDatabase {
    let database = try TestDatabase()
    try database.addLicense("lic_1")
    try database.execute(
      """
      insert into license_limit values ('lic_1', 'api_calls', 100);
      insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
      select l, 'api_calls', (now() at time zone 'UTC')::date - d, 3, 2, ''
      from unnest('{lic_1,lic_nobody}'::text[]) l, unnest('{0,70}'::int[]) d;
      insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset, last_offset, quantity,
        event_count, minutes)
      values ('lic_1', 'api_calls', date_trunc('hour', now()), 0, 0, 0, 1, 3, 2, '')
      """)
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("deploy/billing-reader.sql")
    let sql = try String(contentsOf: script, encoding: .utf8)
    // It may be run again, so this runs it twice.
    for _ in 0..<2 { try database.execute(sql) }
    return database
  }

  @Test func `The role reads the billing views and nothing else`() throws {
    let database = try database()
    let tables = try database.rows(
      """
      select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'S')
        and not relname = any ($1::text[])
      """, [.texts(Self.views)]
    ).compactMap { $0[0] }
    #expect(tables.count > 30 && tables.contains("api_token") && tables.contains("webhook_secret"))
    try database.execute("set role billing_reader")
    // The database belongs to this test, so a setting that stays there harms nobody.
    defer { _ = try? database.execute("reset role") }
    for view in Self.views { _ = try database.rows("select * from \(view)") }
    for table in tables {
      #expect(throws: PostgresError.self, "\(table)") {
        try database.rows("select * from \"\(table)\" limit 0")
      }
    }
    #expect(throws: PostgresError.self) { try database.execute("delete from billing_license") }
    #expect(throws: PostgresError.self) { try database.execute("create table mine (a int)") }
  }

  @Test func `The views carry the customer and tell current periods from past ones`() throws {
    let database = try database()
    try database.execute("set role billing_reader")
    // The database belongs to this test, so a setting that stays there harms nobody.
    defer { _ = try? database.execute("reset role") }
    let periods = try database.rows(
      """
      select customer_id, license_id, status, quantity, limit_quantity from billing_usage_by_period
      where customer_id = 'cus_test' order by period_start
      """)
    #expect(
      periods == [
        ["cus_test", "lic_1", "past", "3", "100"], ["cus_test", "lic_1", "current", "3", "100"],
      ])
    for view in ["billing_usage_by_day", "billing_usage_by_hour"] {
      #expect(
        try database.rows(
          """
          select customer_id, sum(quantity) from \(view) where license_id = 'lic_1'
            and bucket_start >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' group by 1
          """) == [["cus_test", "3"]])
    }
    #expect(
      try database.rows("select distinct license_id from billing_usage_unregistered")
        == [["lic_nobody"]])
    #expect(
      try database.rows("select customer_id, limits from billing_license")
        == [["cus_test", #"{"api_calls": 100}"#]])
  }
}
