import ArgumentParser
import Dispatch
import MeteringTestKit
import PostgresStore

/// Fills the project's own tables with SQL, and measures sizes, merges and reads.
struct Storage: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures sizes, merges and reads of a filled database.",
    discussion: """
      The defaults are a tenth of 100,000 licenses with 20 million hours and 12 million days, and take
      about a minute. The database of --database must be empty and migrated; without it a private
      server is started and thrown away. A filled database may be kept for other measurements.
      """)

  @Option(help: "An empty, migrated database. Without it, a private server is started.")
  var database: String?
  @Option(help: "The number of licenses.") var licenses = 10_000
  @Option(help: "The number of customers.") var customers = 10
  @Option(help: "The number of hours of each license.") var hours = 200
  @Option(help: "The number of days of each license.") var days = 120
  @Option(help: "The number of merges. Each merges one row of each license.") var merges = 10
  @Option(help: "For how many seconds new license-hours are merged without a pause.")
  var sustain = 0

  func run() throws {
    let store =
      try database.map { TestDatabase(url: $0, timeLimit: 0) } ?? TestDatabase(timeLimit: 0)
    print("licenses \(licenses), customers \(customers), hours \(hours), days \(days) a license")
    let filled = try seconds { try fill(store) }
    print("filled in \(Self.rounded(filled)) s")
    try printSizes(store)
    try printReads(store)
    try printMerges(store)
    if sustain > 0 { try printSustained(store) }
  }

  // MARK: The fill

  private func fill(_ store: TestDatabase) throws {
    _ = try store.rows(
      "insert into customer (customer_id, name) select 'cus_' || c, 'c' "
        + "from generate_series(0, $1::int - 1) c", [.int(customers)])
    _ = try store.rows(
      """
      insert into license (license_id, customer_id, plan, domains, issued_at, expires_at,
        billing_anchor_day)
      select 'lic_' || lpad(n::text, 8, '0'), 'cus_' || n % $2::int, 'professional',
        '{example.com}', now(), now() + interval '1 year', 1 + n % 28
      from generate_series(0, $1::int - 1) n
      """, [.int(licenses), .int(customers)])
    try store.execute(
      """
      insert into license_billing_anchor
      select license_id, '-infinity', billing_anchor_day from license
      """)
    for (table, span) in [
      ("usage_hour", (hours + sustain) / 24), ("usage_day", max(days, (hours + sustain) / 24)),
    ] {
      _ = try store.rows(
        """
        select usage_month_make($1, m::date)
        from generate_series(date_trunc('month', now() at time zone 'UTC' - make_interval(days => $2::int)),
          now() at time zone 'UTC', '1 month') m
        where to_regclass($1 || '_' || to_char(m, 'YYYYMM')) is null
        """, [.text(table), .int(span + 1)])
    }
    // The rows are in the order of time, as merges would have written them.
    try eachPortion(of: hours, "hours") { newest, oldest in
      _ = try store.rows(
        """
        insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
          quantity, event_count, minutes)
        select 'lic_' || lpad(n::text, 8, '0'), 'api_calls',
          date_trunc('hour', now()) - make_interval(hours => h), 1, n % 64, h, h + 10, 40, 40,
          '[1,4,4],[7,4,4],[13,4,4],[19,4,4],[25,4,4],[31,4,4],[37,4,4],[43,4,4],[49,4,4],[55,4,4]'
        from generate_series($2::int, $3::int, -1) h, generate_series(0, $1::int - 1) n
        """, [.int(licenses), .int(oldest), .int(newest)])
    }
    try eachPortion(of: days, "days") { newest, oldest in
      _ = try store.rows(
        """
        insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
        select 'lic_' || lpad(n::text, 8, '0'), 'api_calls', (now() at time zone 'UTC')::date - d, 960, 960,
          '["domain","app.example.com",400,400],["domain","www.example.com",400,400],'
            || '["feature","analytics",100,100],["feature","webhooks",100,100],'
            || '["feature","custom-domains",50,50]'
        from generate_series($2::int, $3::int, -1) d, generate_series(0, $1::int - 1) n
        """, [.int(licenses), .int(oldest), .int(newest)])
    }
    try store.execute(
      """
      insert into usage_meter_hour
      select hour, meter, sum(quantity), sum(event_count) from usage_hour group by 1, 2;
      update usage_meter_hour_state set complete_from = '-infinity'
      """)
    try store.execute("vacuum analyze")
    let folded = try seconds { try fold(store) }
    print("totals of \(licenses * days) days made in \(Self.rounded(folded)) s")
    try store.execute("vacuum analyze")
  }

  /// Calls `insert` for runs of hours or days, the oldest first, with the newest and the oldest of
  /// each run as numbers before now.
  private func eachPortion(
    of count: Int, _ unit: String, _ insert: (_ newest: Int, _ oldest: Int) throws -> Void
  ) rethrows {
    let portion = max(1, 1_000_000 / max(licenses, 1))
    var left = count
    while left > 0 {
      let newest = max(0, left - portion)
      try insert(newest, left - 1)
      left = newest
      note("filling: \(count - left) of \(count) \(unit)")
    }
  }

  private func fold(_ store: TestDatabase) throws {
    while try store.integer("select usage_fold(50000)") ?? 0 > 0 {}
  }

  // MARK: What it shows

  private func printSizes(_ store: TestDatabase) throws {
    let relations = [
      ("usage_hour", licenses * hours), ("usage_day", licenses * days),
      ("usage_license_period", 0), ("usage_customer_day", 0),
    ]
    for (name, expected) in relations {
      let bytes =
        try store.integer(
          """
          select coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size('\(name)'))::bigint
          from pg_partition_tree('\(name)') where isleaf
          """) ?? 0
      let rows =
        expected > 0 ? expected : Int(try store.integer("select count(*) from \(name)") ?? 0)
      print("\(name): \(rows) rows, \(Int(bytes) / max(rows, 1)) bytes a row with indexes")
      if name == "usage_hour" {
        let each = Double(bytes) / Double(max(rows, 1))
        // This is a license that is used in every hour of the 400 days for which hours are kept.
        print(
          "  by extrapolation: \(Self.rounded(each * 9_600 / 1e6)) MB a license that never rests,")
        print("  and \(Self.rounded(each * 1e9 / 1e9)) GB for a billion rows")
      }
    }
  }

  private func printReads(_ store: TestDatabase) throws {
    let license = "lic_00000001"
    let reads = [
      (
        "a license's last hour by minute",
        "usage_minutes('\(license)', now() - interval '1 hour', now())"
      ),
      (
        "a customer's month by day",
        "customer_usage_by_day('cus_1', now()::date - 31, now()::date + 1)"
      ),
      (
        "a customer's periods",
        "customer_usage_by_period('cus_1', now()::date - 400, now()::date + 1)"
      ),
      ("all open periods by meter", "usage_in_periods_of(now()::date)"),
      ("a license's periods, by the view", "usage_by_period where license_id = '\(license)'"),
    ]
    for (name, read) in reads {
      let times = try (0..<7).map { _ in
        try seconds { _ = try store.rows("select * from \(read)") }
      }
      print("\(name): \(Self.rounded(times.sorted()[3] * 1_000)) ms")
    }
  }

  private func printMerges(_ store: TestDatabase) throws {
    var busy = 0.0
    for round in 1...max(merges, 1) {
      _ = try store.rows(
        """
        insert into usage_pending
        select 1, n % 64, 'lic_' || lpad(n::text, 8, '0'), 'api_calls', date_trunc('hour', now()),
          100, 200, 4, 4, '[' || n % 60 || ',2,2],[' || (n + 7) % 60 || ',2,2]',
          '["domain","app.example.com",2,2],["feature","analytics",2,2]'
        from generate_series(0, $1::int - 1) n
        """, [.int(licenses)])
      let merged = try seconds {
        _ = try store.rows("select usage_merge(array(select generate_series(0, 63)))")
      }
      let folded = try seconds { try fold(store) }
      busy += merged + folded
      try store.execute("vacuum usage_pending")
      try store.execute("vacuum usage_delta")
      print(
        "merge \(round): \(Int(Double(licenses) / merged)) license-hours/s, "
          + "with the fold \(Int(Double(licenses) / (merged + folded)))")
    }
    let appended = try store.integer("select count(*) from usage_appended") ?? 0
    // This is the state after a while without new rows, so that all rows are combined.
    try store.execute(
      """
      update usage_append_state set seen = (select last_value from usage_append_count),
        seen_at = '-infinity'
      """)
    let combined = try seconds { try fold(store) }
    print("\(appended) appended rows combined in \(Self.rounded(combined)) s")
    print(
      "with the fold and the combining: "
        + "\(Int(Double(licenses * max(merges, 1)) / (busy + combined))) license-hours/s")
  }

  /// Each round brings an hour that no license has yet, so every row is written once at each place.
  /// This is the most expensive traffic. The rows of a round are merged and folded before the next
  /// one.
  private func printSustained(_ store: TestDatabase) throws {
    let upkeep = UsageUpkeep(try store.connection())
    let began = DispatchTime.now().uptimeNanoseconds
    func elapsed() -> Double { Double(DispatchTime.now().uptimeNanoseconds - began) / 1e9 }
    var round = 0
    var told = (rounds: 0, at: 0.0)
    while elapsed() < Double(sustain) {
      round += 1
      _ = try store.rows(
        """
        insert into usage_pending
        select 1, n % 64, 'lic_' || lpad(n::text, 8, '0'), 'api_calls',
          date_trunc('hour', now()) - make_interval(hours => $2::int), 100, 200, 4, 4,
          '[' || n % 60 || ',2,2],[' || (n + 7) % 60 || ',2,2]',
          '["domain","app.example.com",2,2],["feature","analytics",2,2]'
        from generate_series(0, $1::int - 1) n
        """, [.int(licenses), .int(hours + round)])
      _ = try store.rows("select usage_merge(array(select generate_series(0, 63)))")
      try fold(store)
      for table in [UsageUpkeep.Table.pending, .delta, .appended] { try upkeep.vacuum(table) }
      guard elapsed() - told.at >= 30 || elapsed() >= Double(sustain) else { continue }
      let rate = Double(licenses * (round - told.rounds)) / (elapsed() - told.at)
      let waiting = try store.rows(
        "select (select count(*) from usage_unmerged), (select count(*) from usage_appended)")
      print(
        "after \(Int(elapsed())) s: \(Int(rate)) license-hours/s, \(waiting[0][0]!) pending, "
          + "\(waiting[0][1]!) appended")
      told = (round, elapsed())
    }
    print(
      "sustained: \(Int(Double(licenses * round) / elapsed())) new license-hours/s, for "
        + "\(Int(elapsed())) s")
  }

  private func seconds(_ body: () throws -> Void) rethrows -> Double {
    let started = DispatchTime.now().uptimeNanoseconds
    try body()
    return Double(DispatchTime.now().uptimeNanoseconds - started) / 1e9
  }

  private static func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }
}
