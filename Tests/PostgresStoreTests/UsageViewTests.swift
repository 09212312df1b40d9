import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// What the migration's views and functions make of pending rows.
@Suite struct UsageViewTests {
  /// Adds one pending row with one minute, and with values as `["domain",…]`.
  private func append(
    _ database: TestDatabase, _ license: String, _ hour: String, quantity: Int64 = 1,
    partition: Int = 0, domains: [String] = []
  ) throws {
    let dimensions = domains.map { "[\"domain\",\"\($0)\",\(quantity),1]" }.joined(separator: ",")
    _ = try database.rows(
      """
      insert into usage_pending values (1, $5::int, $1, 'api_calls', $2::timestamptz, 0, 0, $3::bigint, 1,
        '[5,' || $3 || ',1]', $4)
      """,
      [.text(license), .text(hour), .integer(quantity), .text(dimensions), .int(partition)])
  }

  private func merge(_ database: TestDatabase, isolate: Bool = false) throws -> Int64 {
    try database.integer("select usage_merge('{0,1}', \(isolate))") ?? 0
  }

  private func periods(_ database: TestDatabase, _ license: String) throws -> [String] {
    try database.rows(
      """
      select to_char(period_start, 'YYYY-MM-DD') || ' ' || to_char(period_end, 'YYYY-MM-DD') || ' ' || quantity
      from usage_by_period where license_id = $1 order by 1
      """, [.text(license)]
    ).map { $0[0]! }
  }

  @Test func `Periods follow the anchor day`() throws {
    let database = try TestDatabase()
    try database.addLicense("lic_31", anchorDay: 31)
    try database.addLicense("lic_15", anchorDay: 15)
    for license in ["lic_31", "lic_15", "lic_none"] {
      for day in [
        "2027-01-30", "2027-01-31", "2027-02-27", "2027-02-28", "2027-03-30", "2027-03-31",
      ] {
        try append(database, license, "\(day) 23:00Z")
      }
    }
    try append(database, "lic_31", "2028-02-28 12:00Z")
    try append(database, "lic_31", "2028-02-29 12:00Z")
    for _ in 0..<2 {
      #expect(
        try periods(database, "lic_31") == [
          "2026-12-31 2027-01-31 1", "2027-01-31 2027-02-28 2", "2027-02-28 2027-03-31 2",
          "2027-03-31 2027-04-30 1", "2028-01-31 2028-02-29 1", "2028-02-29 2028-03-31 1",
        ])
      #expect(
        try periods(database, "lic_15") == [
          "2027-01-15 2027-02-15 2", "2027-02-15 2027-03-15 2", "2027-03-15 2027-04-15 2",
        ])
      #expect(
        try periods(database, "lic_none") == [
          "2027-01-01 2027-02-01 2", "2027-02-01 2027-03-01 2", "2027-03-01 2027-04-01 2",
        ])
      // The same must hold after the merge.
      _ = try merge(database)
    }
  }

  @Test func `A change of anchor makes one short period`() throws {
    let database = try TestDatabase()
    try database.addLicense("lic_1", anchorDay: 1)
    try database.execute("insert into license_billing_anchor values ('lic_1', '2027-03-15', 15)")
    for day in ["2027-02-20", "2027-03-01", "2027-03-14", "2027-03-15", "2027-04-14", "2027-04-15"]
    {
      try append(database, "lic_1", "\(day) 10:00Z")
    }
    #expect(
      try periods(database, "lic_1") == [
        "2027-02-01 2027-03-01 1", "2027-03-01 2027-03-15 2", "2027-03-15 2027-04-15 2",
        "2027-04-15 2027-05-15 1",
      ])
    #expect(
      try database.integer(
        "select count(*) - count(distinct period_id) from usage_by_period") == 0)
  }

  @Test func `Dimensions are capped and bound domains stay`() throws {
    let database = try TestDatabase()
    try database.addLicense("lic_1", domains: ["bound.example.com"])
    for n in 0..<260 {
      try append(database, "lic_1", "2027-01-01 \(n % 24):00Z", domains: ["d\(n).com"])
    }
    try append(database, "lic_1", "2027-01-01 23:00Z", quantity: 5, domains: ["bound.example.com"])
    func check(_ when: Comment) throws {
      #expect(
        try database.integer("select sum(quantity)::bigint from usage_by_dimension_day") == 265,
        when)
      // There are 200 values, and the rest is in one more row or in one of them.
      let values = try #require(try database.integer("select count(*) from usage_by_dimension_day"))
      #expect((200...201).contains(values), when)
      #expect(
        try database.rows(
          "select quantity from usage_by_dimension_day where value = 'bound.example.com'")
          == [["5"]], when)
      #expect(
        try #require(
          try database.integer(
            "select quantity from usage_by_dimension_day where value = '(other)'")) >= 60, when)
    }
    try check("pending")
    _ = try merge(database)
    try check("merged")
    // Many merges follow, which compact the row.
    for round in 0..<40 {
      for n in 0..<5 {
        try append(database, "lic_1", "2027-01-01 0\(n):00Z", domains: ["late\(round)-\(n).com"])
      }
      _ = try merge(database)
    }
    #expect(try database.integer("select sum(quantity)::bigint from usage_by_dimension_day") == 465)
    #expect(
      (200...201).contains(try database.integer("select count(*) from usage_by_dimension_day") ?? 0)
    )
    #expect(
      try database.rows(
        "select quantity from usage_by_dimension_day where value = 'bound.example.com'") == [["5"]])
    #expect(
      try database.integer("select max(length(dimensions)) from usage_day") ?? 0 < 40_000)
  }

  @Test func `Merged minutes are compacted without changing sums`() throws {
    let database = try TestDatabase()
    for round in 0..<300 {
      try append(database, "lic_1", "2027-01-01 10:00Z", quantity: Int64(round))
      if round % 3 == 0 { _ = try merge(database) }
    }
    _ = try merge(database)
    #expect(try merge(database) == 0)
    #expect(
      try database.rows("select quantity, event_count from usage_by_minute") == [["44850", "300"]])
    #expect(
      try database.rows("select quantity, event_count from usage_by_hour") == [["44850", "300"]])
    #expect(try database.integer("select max(length(minutes)) from usage_hour") ?? 0 < 2_500)
  }

  @Test func `Simultaneous merges of the same partitions move each row once`() throws {
    let database = try TestDatabase()
    let url = database.url
    for n in 0..<200 { try append(database, "lic_\(n % 5)", "2027-01-01 10:00Z", partition: n % 2) }
    let lock = NSLock()
    nonisolated(unsafe) var failures: [String] = []  // Guarded by `lock`.
    DispatchQueue.concurrentPerform(iterations: 4) { _ in
      do {
        let own = TestDatabase(url: url)
        for _ in 0..<10 { _ = try own.rows("select usage_merge('{0,1}')") }
      } catch {
        lock.lock()
        failures.append("\(error)")
        lock.unlock()
      }
    }
    #expect(failures == [])
    #expect(try database.integer("select count(*) from usage_pending") == 0)
    for view in ["usage_by_minute", "usage_by_hour", "usage_by_day", "usage_by_period"] {
      #expect(try database.integer("select sum(quantity)::bigint from \(view)") == 200)
    }
  }

  @Test func `A total that does not fit is set aside alone`() throws {
    let database = try TestDatabase()
    try append(database, "lic_huge", "2027-01-01 10:00Z", quantity: 60_000_000_000_000_000)
    #expect(try merge(database) == 1)
    try append(database, "lic_huge", "2027-01-01 11:00Z", quantity: 60_000_000_000_000_000)
    try append(database, "lic_huge", "2027-01-02 11:00Z", quantity: 3)
    try append(database, "lic_1", "2027-01-01 11:00Z")
    let error = try #require(throws: PostgresError.self) { try merge(database) }
    #expect(["23514", "22003"].contains(error.sqlState))
    #expect(try merge(database, isolate: true) == 3)
    #expect(
      try database.rows("select license_id, quantity from usage_quarantine")
        == [["lic_huge", "60000000000000000"]])
    #expect(
      try database.rows("select license_id, sum(quantity) from usage_by_day group by 1 order by 1")
        == [["lic_1", "1"], ["lic_huge", "60000000000000003"]])
  }

  @Test func `Views answer for all licenses while a total does not fit`() throws {
    let database = try TestDatabase()
    // Each of the two fits a row. Together they do not fit 64 bits, and no merge has looked yet.
    for _ in 0..<2 { try append(database, "lic_huge", "2027-01-01 10:00Z", quantity: .max - 1) }
    try append(database, "lic_1", "2027-01-01 10:00Z")
    for view in ["usage_by_minute", "usage_by_hour", "usage_by_day", "usage_by_period"] {
      #expect(
        try database.integer("select quantity from \(view) where license_id = 'lic_1'") == 1)
    }
    _ = try? merge(database)
    _ = try merge(database, isolate: true)
    #expect(try database.integer("select count(*) from usage_quarantine") == 2)
    #expect(try database.integer("select count(*) from usage_by_day") == 1)
  }

  @Test func `Retention keeps days and periods`() throws {
    let database = try TestDatabase()
    for n in 0..<3 { try append(database, "lic_\(n)", "2027-01-01 10:00Z") }
    _ = try merge(database)
    try database.execute(
      "update usage_hour set written_at = now() - interval '8 days' where license_id = 'lic_1'")
    try database.execute(
      "update usage_hour set written_at = now() - interval '401 days' where license_id = 'lic_2'")
    var touched: Int64 = 0
    while let n = try database.integer("select usage_retain(1)"), n > 0 { touched += n }
    #expect(touched >= 2)
    func licenses(_ view: String) throws -> [String?] {
      try database.rows("select license_id from \(view) order by 1").map { $0[0] }
    }
    #expect(try licenses("usage_by_minute") == ["lic_0"])
    #expect(try licenses("usage_by_hour") == ["lic_0", "lic_1"])
    #expect(try licenses("usage_by_day") == ["lic_0", "lic_1", "lic_2"])
    #expect(try licenses("usage_by_period") == ["lic_0", "lic_1", "lic_2"])
    // Usage that comes late, when the hour's minutes or its row are gone, is only in the longer
    // windows.
    for n in 1...2 { try append(database, "lic_\(n)", "2027-01-01 10:00Z", quantity: 4) }
    try append(database, "lic_2", "2027-01-01 11:00Z", quantity: 7)
    for isMerged in [false, true] {
      if isMerged { _ = try merge(database) }
      func quantities(_ view: String, _ license: String) throws -> [String?] {
        try database.rows(
          "select quantity from \(view) where license_id = '\(license)' order by bucket_start"
        ).map { $0[0] }
      }
      #expect(try quantities("usage_by_minute", "lic_1") == [], "merged: \(isMerged)")
      #expect(try quantities("usage_by_hour", "lic_1") == ["5"], "merged: \(isMerged)")
      #expect(try quantities("usage_by_hour", "lic_2") == ["7"], "merged: \(isMerged)")
      #expect(try quantities("usage_by_day", "lic_2") == ["12"], "merged: \(isMerged)")
      #expect(try licenses("usage_provenance") == ["lic_0", "lic_1", "lic_2"])
      for license in ["lic_0", "lic_1"] {
        let minutes = try database.rows(
          "select quantity from usage_minutes('\(license)', '2027-01-01Z', '2027-01-02Z')")
        #expect(minutes.map { $0[0] } == (license == "lic_0" ? ["1"] : []))
      }
    }
    let reads = UsageReads(try database.connection())
    let wrong = try reads.atOneSnapshot { try reads.disagreements(in: UsageReads.Minutes()) }
    #expect(wrong.isEmpty)
  }

  @Test func `A view that shows something else than the storage is a disagreement`() throws {
    let database = try TestDatabase()
    for n in 0..<3 { try append(database, "lic_\(n)", "2027-01-01 10:00Z", quantity: 7) }
    _ = try merge(database)
    // An hour with a merged and a waiting row.
    try append(database, "lic_2", "2027-01-01 10:00Z", quantity: 4)
    let hour: Int64 = 1_798_797_600 / 60
    func disagreements(_ range: UsageReads.Minutes) throws -> [String] {
      let reads = UsageReads(try database.connection())
      return try reads.atOneSnapshot { try reads.disagreements(in: range) }
        .map {
          "\($0.view) \($0.license) \($0.start - hour) \($0.viewQuantity) \($0.storageQuantity)"
        }.sorted()
    }
    #expect(try disagreements(UsageReads.Minutes()) == [])
    // The sums of the hour stay the same, but its calls are in another minute.
    try database.execute(
      """
      alter view usage_hour_minutes rename to usage_hour_minutes_before;
      create view usage_hour_minutes as
      select license_id, meter, hour, minute + (license_id = 'lic_1')::int as minute, bucket_start,
        quantity, event_count
      from usage_hour_minutes_before where license_id <> 'lic_2'
      """)
    let expected = ["usage_by_minute lic_1 0 7 7", "usage_by_minute lic_2 0 0 11"]
    #expect(try disagreements(UsageReads.Minutes()) == expected)
    #expect(try disagreements(UsageReads.Minutes(from: hour, to: hour + 60)) == expected)
    #expect(try disagreements(UsageReads.Minutes(from: hour + 60, to: hour + 120)) == [])
  }

  @Test func `An hour is read with its minutes, merged and waiting rows as they are`() throws {
    let database = try TestDatabase()
    try append(database, "lic_1", "2027-01-01 10:00Z", quantity: 7)
    _ = try merge(database)
    try append(database, "lic_1", "2027-01-01 10:00Z", quantity: 4)
    try append(database, "lic_1", "2027-01-01 11:00Z", quantity: 1)
    let hour: Int64 = 1_798_797_600 / 60
    let reads = UsageReads(try database.connection())
    var rows: [UsageReads.Stored] = []
    try reads.atOneSnapshot {
      try reads.hours(in: UsageReads.Minutes(from: hour, to: hour + 60)) { rows.append($0) }
    }
    #expect(rows.map(\.start) == [hour, hour])
    #expect(rows.map(\.quantity).sorted() == [4, 7])
    #expect(
      Set(rows.flatMap(\.minutes).map(\.quantity)) == [4, 7]
        && rows.allSatisfy { $0.minutes.map(\.minute) == [5] })
    try database.execute("update usage_hour set minutes = '[5,7,1'")
    let failure = #expect(throws: PostgresError.self) {
      try reads.atOneSnapshot { try reads.hours(in: UsageReads.Minutes()) { _ in } }
    }
    #expect(failure?.message.contains("license lic_1") == true)
  }

  @Test func `The text of an hour's minutes is read exactly, or not at all`() {
    typealias Minute = PackedMinutes.Minute
    #expect(PackedMinutes.parse("".utf8) == [])
    #expect(
      PackedMinutes.parse("[0,5,2],[59,9223372036854775807,1],[0,0,1]".utf8) == [
        Minute(minute: 0, quantity: 5, events: 2), Minute(minute: 59, quantity: .max, events: 1),
        Minute(minute: 0, quantity: 0, events: 1),
      ])
    for text in [
      "[", "[]", "[1]", "[1,2]", "[1,2,3", "[1,2,3],", "[1,2,3][4,5,6]", "[60,1,1]", "[1,-2,3]",
      "[1,2,3,4]", "[1,,3]", "[1,9223372036854775808,3]", " [1,2,3]", "[1,2,3] ", "x",
    ] {
      #expect(PackedMinutes.parse(text.utf8) == nil, "\(text)")
    }
  }

  @Test func `No reader shows a late event as the whole of an hour that was dropped`() throws {
    let database = try TestDatabase()
    try database.addLicense("lic_1")
    try database.execute(
      """
      insert into usage_day (license_id, meter, day, quantity, event_count, dimensions, hours_gone)
        values ('lic_1', 'a', '2025-03-01', 1000, 1000, '', 1 << 10);
      update usage_retention set newest_hour_gone = '2025-03-01 10:00Z';
      insert into usage_pending values (1, 0, 'lic_1', 'a', '2025-03-01 10:00Z', 1, 1, 1, 1, '[5,1,1]', ''),
        (1, 0, 'lic_1', 'a', '2025-03-01 11:00Z', 2, 2, 1, 1, '[5,1,1]', '')
      """)
    for _ in 0..<2 {
      for reader in [
        "usage_by_hour", "usage_by_minute", "usage_hour_minutes",
        "billing_usage_by_hour where customer_id = 'cus_test'",
        "usage_minutes('lic_1', '2025-03-01 09:00Z', '2025-03-01 13:00Z')",
      ] {
        let hours = try database.rows(
          "select extract(hour from bucket_start at time zone 'UTC')::int from \(reader)")
        #expect(hours == [["11"]], "\(reader)")
      }
      _ = try database.rows("select usage_merge('{0}')")
    }
    #expect(
      try database.integer("select sum(event_count)::bigint from usage_by_day") == 1_002)
  }
}
