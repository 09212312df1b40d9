import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// What statements and days show by domain, if a day has more domains than it may name.
@Suite struct StatementDomainTests {
  private static let day = "2025-01-20"

  private func database(bound: [String] = ["example.com"]) throws -> TestDatabase {
    let database = try TestDatabase()
    try database.addLicense("lic_1", domains: bound)
    return database
  }

  /// Adds a pending row with one event for each domain, and merges it.
  private func use(
    _ database: TestDatabase, _ domains: [String], day: String = day, quantity: Int = 1,
    appends: Bool = false
  ) throws {
    let parts = domains.map { #"["domain","\#($0)",\#(quantity),1]"# }.joined(separator: ",")
    _ = try database.rows(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', $1::date::timestamp at time zone 'UTC', 0, 0,
        $2::bigint, $3::bigint, '', $4)
      """,
      [
        .text(day), .int(quantity * domains.count), .int(domains.count), .text(parts),
      ])
    try database.execute(
      "update usage_append_state set least_rows = \(appends ? 1 : 1_000_000)")
    _ = try database.rows("select usage_merge('{0}')")
  }

  private func names(_ count: Int, from first: Int = 0) -> [String] {
    (first..<first + count).map { "n\($0).example.net" }
  }

  private func close(_ database: TestDatabase, through day: String = "2025-02-01") throws {
    _ = try PeriodStore(database.connection()).close(
      .init(endingBefore: day, closedBy: "test"))
  }

  private func statement(_ database: TestDatabase) throws -> String? {
    try StatementStore(database.connection()).document(customer: "cus_test", month: "2025-01")
  }

  private func domains(_ database: TestDatabase) throws -> [String: Int] {
    let rows = try database.rows(
      "select domain, quantity from period_domains('lic_1', 'api_calls', '2025-01-01', '2025-02-01')"
    )
    return Dictionary(rows.map { ($0[0]!, Int($0[1]!)!) }) { $0 + $1 }
  }

  /// The named domains of the day.
  private func shown(_ database: TestDatabase) throws -> Set<String> {
    Set(
      try database.rows(
        "select value from usage_by_dimension_day where value <> '(other)'"
      ).map { $0[0]! })
  }

  @Test(arguments: [false, true])
  func `Late events do not change the domains of a closed statement`(appends: Bool) throws {
    let database = try database()
    try use(database, ["late.example"], day: "2025-01-10", quantity: 8, appends: appends)
    // late.example is one of those that the full day puts together.
    try use(database, names(260), appends: appends)
    try close(database)
    let closed = try statement(database)
    #expect(try domains(database)["late.example"] == 8)
    #expect(try domains(database)["(other)"] == 60)
    // Late events are pending, then merged, then combined, and others follow.
    let late = #"["domain","late.example",50,10]"#
    try database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', '\(Self.day) 00:00Z', 0, 0, 50, 10,
        '', '\(late)')
      """)
    #expect(try statement(database) == closed, "pending")
    _ = try database.rows("select usage_merge('{0}')")
    #expect(try statement(database) == closed, "merged")
    try database.execute(
      "update usage_append_state set walked_through = null, began = '-infinity', key_rows = 1")
    _ = try database.rows("select usage_combine(100000)")
    #expect(try statement(database) == closed, "combined")
    for round in 0..<30 {
      try use(database, names(9, from: 1_000 * round), appends: appends)
      #expect(try statement(database) == closed, "\(round)")
    }
    // The next close takes what is late, and late events follow even then.
    try close(database, through: "2025-03-01")
    try use(database, names(3, from: 90_000), appends: appends)
    #expect(try statement(database) == closed)
  }

  @Test func `A full day that was closed keeps each of its names`() throws {
    let database = try database()
    try use(database, names(200))
    try close(database)
    let closed = try statement(database)
    #expect(try domains(database).count == 200)
    try use(database, ["newcomer.example", "example.com"])
    #expect(try statement(database) == closed)
    try use(database, names(300, from: 500))
    #expect(try statement(database) == closed)
  }

  @Test func `A new name or new domains do not change a closed statement`() throws {
    let database = try database()
    try use(database, names(260) + ["bound.example", "example.com"])
    try close(database)
    let closed = try statement(database)
    #expect(closed?.contains(#""name" : "test""#) == true)
    #expect(try domains(database)["example.com"] == 1)
    try database.execute(
      """
      update customer set name = 'Renamed Ltd';
      update license set domains = '{bound.example}'
      """)
    #expect(try statement(database) == closed)
    let open = try StatementStore(database.connection()).document(
      customer: "cus_test", month: "2025-02")
    #expect(open?.contains("Renamed Ltd") == true)
  }

  @Test func `A period that an older schema closed never shows negative usage`() throws {
    let database = try database()
    try use(database, ["late.example"], day: "2025-01-10", quantity: 8)
    try use(database, names(260))
    try close(database)
    // As schema 36 left a closed period with late events.
    try database.execute(
      """
      set session_replication_role = replica;
      update usage_period_closed set customer_name = null, bound_domains = null;
      set session_replication_role = origin;
      update usage_day set quantity = quantity + 50, event_count = event_count + 10,
        dimensions = dimensions || ',["domain","late.example",50,10]' where day = '\(Self.day)';
      insert into usage_late (license_id, meter, period_start, period_end, quantity, event_count, dimensions)
      values ('lic_1', 'api_calls', '2025-01-01', '2025-02-01', 50, 10, '["domain","late.example",50,10]')
      """)
    let told = try domains(database)
    #expect(told.values.allSatisfy { $0 > 0 } && told.values.reduce(0, +) == 268)
    let closed = try statement(database)
    try use(database, ["late.example", "other.example"])
    #expect(try statement(database) == closed)
  }

  @Test func `Bound domains are never put together, in whatever spelling`() throws {
    let spellings = [
      "EXAMPLE.com", "example.com.", "example.com:443", "a.acme.example", "b.c.acme.example",
    ]
    let database = try database(bound: ["example.com", "*.acme.example"])
    try use(database, names(205))
    for spelling in spellings { try use(database, [spelling]) }
    try use(database, ["acme.example", "notacme.example"])
    for round in 0..<2 {
      let shown = try shown(database)
      #expect(shown.isSuperset(of: spellings), "\(round)")
      #expect(!shown.contains("acme.example") && !shown.contains("notacme.example"))
      // Many merges follow, which compact the day.
      for n in 0..<40 { try use(database, names(5, from: 1_000 + 5 * n)) }
    }
    #expect(
      try database.rows("select sum(quantity), sum(event_count) from usage_by_dimension_day")
        == [["612", "612"]])
  }

  @Test func `The domains that a wildcard covers do not fill a day without bound`() throws {
    let database = try database(bound: ["example.com", "*.acme.example"])
    try use(database, names(210))
    try use(database, (0..<1_000).map { "tenant\($0).acme.example" } + ["example.com"])
    for n in 0..<40 { try use(database, names(5, from: 1_000 + 5 * n)) }
    let shown = try shown(database)
    #expect(shown.contains("example.com") && (200...401).contains(shown.count), "\(shown.count)")
  }

  @Test func `A name that a compacted day has shown is shown for ever`() throws {
    let database = try database(bound: ["example.com"])
    try use(database, names(200))
    // This compacts the day with exactly as many names as it may have.
    for n in 0..<40 { try use(database, names(5, from: 5 * n)) }
    let before = try shown(database)
    #expect(before.count == 200)
    try use(database, ["newcomer.example", "example.com"])
    for n in 0..<40 { try use(database, names(5, from: 1_000 + 5 * n)) }
    #expect(try shown(database) == before.union(["example.com"]))
  }
}
