import Foundation
import MeteringTestKit
import Testing

/// How the pages show usage that has just begun.
@Suite struct UsagePageTests {
  @Test func `usage of the current hour is shown from the first event on`() throws {
    let api = try APISetup()
    try api.addLicense("lic_new")
    let reader = try PageReader(api)
    #expect(try reader.get("/").body.contains("No usage has been counted yet"))
    func hour() throws -> Int64? {
      try api.database.integer("select extract(epoch from date_trunc('hour', now()))::bigint")
    }
    let began = try hour()
    try api.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_new', 'api_calls', date_trunc('hour', now()), 0,
        0, 4711, 1, '[5,4711,1]', '');
      select usage_merge('{0}');
      """)
    let overview = try reader.get("/").body
    #expect(!overview.contains("No usage has been counted yet"))
    let isSameHour = try hour() == began
    #expect(overview.contains("4,711 calls so far") || !isSameHour)
    // The compared sum differs from the sum that is shown, and the page says so.
    #expect(overview.contains("; until ") && overview.contains("the same as before (0)"))
    // The charts of the license agree with its card.
    let license = try reader.get("/licenses/lic_new").body
    #expect(license.components(separatedBy: "4,711 calls").count > 2, "\(license)")
  }

  @Test func `pages show the meters with the most events and say how many others there are`() throws
  {
    let api = try APISetup()
    try api.addLicense("lic_many")
    // The service stores whatever meters somebody reports. `zz_main` has the most events.
    try api.database.execute(
      """
      insert into usage_pending
      select 1, 0, 'lic_many', m, date_trunc('hour', now()), n, n, q, e,
        format('[5,%s,%s]', q, e), ''
      from (
        select n, case when n = 1000 then 'zz_main' else 'm' || n end as m, 10 + n as q,
          case when n = 1000 then 500 else 1 + n / 100 end as e
        from generate_series(1, 1000) n) x;
      select usage_merge('{0}');
      """)
    let reader = try PageReader(api)
    let overview = try reader.get("/").body
    #expect(overview.components(separatedBy: "id=\"meter-").count == 13)
    #expect(overview.contains("Zz main by hour"))
    #expect(overview.contains("988 other meters with fewer events"))
    let license = try reader.get("/licenses/lic_many?meter=m7").body
    #expect(license.contains("977 other meters with a smaller quantity"))
    #expect(license.contains("Zz main") && license.contains("M7 by "))
    #expect(license.utf8.count < 200_000)
  }

  @Test func `the overview still shows a meter that nobody has used for a day`() throws {
    let api = try APISetup()
    try api.addLicense("lic_old")
    try api.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_old', 'exports',
        date_trunc('hour', now()) - interval '26 hours', 0, 0, 4711, 1, '[5,4711,1]', '');
      select usage_merge('{0}');
      """)
    let overview = try PageReader(api).get("/").body
    #expect(overview.contains("Exports by hour") && overview.contains("4,711"))
  }

  @Test func `the last period of a license is shown if it is not used in this one`() throws {
    let api = try APISetup()
    try api.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_nobody', 'api_calls',
        date_trunc('month', now(), 'UTC') - interval '1 month', 0, 0, 4711, 1, '[5,4711,1]', '');
      select usage_merge('{0}');
      """)
    let license = try PageReader(api).get("/licenses/lic_nobody?range=last_period").body
    #expect(license.contains("4,711"), "\(license)")
  }
}
