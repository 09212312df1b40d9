import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// The states of limits when a license's periods or its limit change.
@Suite struct LimitPeriodTests {
  private static let today = "(now() at time zone 'UTC')::date"

  private func use(_ quantity: Int, _ database: TestDatabase, at time: String = "now()") throws {
    try database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', date_trunc('hour', \(time)), 7, 9,
        \(quantity), 1, '[5,\(quantity),1]', '')
      """)
    _ = try database.rows("select usage_merge('{0}')")
  }

  private func alerts(_ database: TestDatabase) throws -> [[String?]] {
    try database.rows(
      """
      select data->>'threshold_percent', data->>'limit' from alert where type like 'license.limit%'
      order by alert_id
      """)
  }

  @Test func `A change of the anchor day that is withdrawn leaves the whole period its limit`()
    throws
  {
    let database = try TestDatabase()
    try database.addLicense("lic_1")
    try database.execute(
      """
      insert into license_limit values ('lic_1', 'api_calls', 100);
      insert into license_billing_anchor
        select 'lic_1', \(Self.today) + 1, extract(day from \(Self.today) + 1)
      """)
    _ = try database.rows("select limit_sweep(100)")
    let end = "select period_end - \(Self.today) from limit_state"
    #expect(try database.integer(end) == 1)
    try database.execute("delete from license_billing_anchor where effective_from <> '-infinity'")
    _ = try database.rows("select limit_sweep(100)")
    #expect(
      try database.integer(
        """
        select count(*) from limit_state s, period_of('lic_1', \(Self.today)) p
        where (s.period_start, s.period_end) = (p.first_day, p.end_day)
        """) == 1)
    try use(100, database)
    #expect(try alerts(database) == [["80", "100"], ["100", "100"]])
  }

  @Test func `A limit that is lowered today says nothing about the period that has ended`() throws {
    let database = try TestDatabase()
    // The last period ended yesterday.
    try database.addLicense("lic_1")
    try database.execute(
      """
      insert into license_billing_anchor
        select 'lic_1', \(Self.today) - 20, extract(day from \(Self.today) - 20);
      insert into license_billing_anchor
        select 'lic_1', \(Self.today), extract(day from \(Self.today));
      insert into license_limit values ('lic_1', 'api_calls', 1000)
      """)
    _ = try database.rows("select limit_sweep(100)")
    try use(500, database, at: "now() - interval '2 days'")
    try database.execute("update license_limit set quantity = 100")
    _ = try database.rows("select limit_sweep(100)")
    #expect(
      try database.rows("select limit_quantity::text, used::text from limit_state order by 1 desc")
        .map { $0.map { $0 ?? "" } } == [["1000", "500"], ["100", "0"]])
    try use(1, database, at: "now() - interval '2 days'")
    #expect(try alerts(database) == [])
    try use(300, database, at: "now() - interval '2 days'")
    #expect(try alerts(database) == [["80", "1000"]])
    // Usage of today is judged by the limit of today.
    try use(90, database)
    #expect(try alerts(database) == [["80", "1000"], ["80", "100"]])
  }
}
