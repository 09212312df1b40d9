/// What `meterctl reconcile`, `explain` and `status` read: the storage behind the views, and the views themselves.
///
/// Times are in epoch minutes (minutes since 1970, UTC). Sums are texts' numbers of 128 bits: a
/// check must not overflow where what it checks did not.
package struct UsageReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) {
    self.connection = connection
  }

  /// From (inclusive) to (exclusive); nil is without bound.
  package struct Minutes: Sendable, Equatable {
    package var from: Int64?
    package var to: Int64?

    package init(from: Int64? = nil, to: Int64? = nil) {
      self.from = from
      self.to = to
    }

    package func contains(_ start: Int64, length: Int64) -> Bool {
      from.map { $0 <= start } ?? true && to.map { start + length <= $0 } ?? true
    }

    /// The same range, made longer to whole windows of `length` minutes.
    package func widened(to length: Int64) -> Minutes {
      func floor(_ value: Int64) -> Int64 {
        let rest = value % length
        return value - (rest < 0 ? rest + length : rest)
      }
      return Minutes(from: from.map(floor), to: to.map { floor($0 + length - 1) })
    }

    /// A condition on a column of timestamptz. Integers only, so there is nothing to quote.
    fileprivate func condition(_ column: String) -> String {
      var parts = ["true"]
      if let from { parts.append("\(column) >= to_timestamp(\(from)::bigint * 60)") }
      if let to { parts.append("\(column) < to_timestamp(\(to)::bigint * 60)") }
      return parts.joined(separator: " and ")
    }
  }

  /// A row of usage as it is stored, by the place in the log that it came from.
  package struct Stored: Sendable {
    package var logEpoch: Int32
    package var partition: Int32
    package var license: String
    package var meter: String
    package var start: Int64
    package var quantity: Int128
    package var eventCount: Int64
    /// The offsets of the first and the last event. Rows of hours have them; others have none.
    package var firstOffset: Int64
    package var lastOffset: Int64
  }

  /// A row of a view.
  package struct Row: Sendable {
    package var license: String
    package var meter: String
    package var start: Int64
    package var dimension: String
    package var value: String
    package var quantity: Int128
    package var eventCount: Int64
  }

  /// A row of a view that is not the sum of the storage.
  package struct Disagreement: Sendable {
    package var view: String
    package var license: String
    package var meter: String
    package var start: Int64
    package var viewQuantity: Int128
    package var viewEvents: Int64
    package var storageQuantity: Int128
    package var storageEvents: Int64
  }

  package struct Gap: Sendable {
    package var partition: Int32
    package var logEpoch: Int32
    package var firstOffset: Int64
    package var lastOffset: Int64
    package var acceptedBy: String
  }

  package struct DeadLetterPlace: Sendable {
    package var partition: Int32
    package var offset: Int64
    package var logEpoch: Int32
    package var reason: String
    package var isCounted: Bool
  }

  package struct LedgerSum: Sendable {
    package var producer: String
    package var counted: Int64
    package var duplicates: Int64
    package var repeated: Int64
    package var deadLettered: Int64
  }

  // MARK: The snapshot

  /// Runs `body` at one snapshot, reading only. Everything in it must follow briskly: the server ends a transaction that
  /// is idle for 10 s.
  package func atOneSnapshot<T>(_ body: () throws -> T) throws -> T {
    try connection.transaction("begin transaction isolation level repeatable read read only") {
      // The sums of a whole database take longer than what the services ask.
      try connection.execute("set local statement_timeout = '15min'")
      return try body()
    }
  }

  /// Milliseconds since 1970 by the server's clock.
  package func serverMilliseconds() throws(PostgresError) -> Int64 {
    let rows = try connection.query(
      "select (extract(epoch from now()) * 1000)::bigint", operation: "read the clock")
    return rows.integer(0, 0) ?? 0
  }

  package func importBatches() throws(PostgresError) -> [(batch: String, oldest: Int64)] {
    let rows = try connection.query(
      "select batch, ceil(extract(epoch from oldest_time) * 1000)::bigint from import_batch",
      operation: "read import batches")
    return rows.rows.indices.map { (rows.text($0, 0) ?? "", rows.integer($0, 1) ?? 0) }
  }

  package func gaps(group: String, topic: String) throws(PostgresError) -> [Gap] {
    let rows = try connection.query(
      """
      select partition, log_epoch, first_offset, last_offset, accepted_by from log_gap
      where consumer_group = $1 and topic = $2 order by 1, 2, 3
      """, [.text(group), .text(topic)], operation: "read gaps")
    return rows.rows.indices.map {
      Gap(
        partition: Int32(rows.integer($0, 0)!), logEpoch: Int32(rows.integer($0, 1)!),
        firstOffset: rows.integer($0, 2)!, lastOffset: rows.integer($0, 3)!,
        acceptedBy: rows.text($0, 4) ?? "")
    }
  }

  package func deadLetters(group: String, topic: String) throws -> [DeadLetterPlace] {
    var found: [DeadLetterPlace] = []
    try forEachPage(
      "select partition, log_offset, log_epoch, reason, counted_at is not null from dead_letter "
        + "where consumer_group = \(Self.literal(group)) and topic = \(Self.literal(topic))",
      "read dead letters"
    ) { rows, i in
      found.append(
        DeadLetterPlace(
          partition: Int32(rows.integer(i, 0)!), offset: rows.integer(i, 1)!,
          logEpoch: Int32(rows.integer(i, 2)!), reason: rows.text(i, 3) ?? "",
          isCounted: rows.boolean(i, 4)))
    }
    return found
  }

  /// Whether a dead letter of that place and value is known.
  package func hasDeadLetter(
    topic: String, logEpoch: Int64, partition: Int64, offset: Int64, value: [UInt8]
  ) throws(PostgresError) -> Bool {
    try connection.query(
      """
      select exists (
        select from dead_letter where topic = $1 and log_epoch = $2::int and partition = $3::int
          and log_offset = $4::bigint and payload = $5)
      """,
      [.text(topic), .integer(logEpoch), .integer(partition), .integer(offset), .bytes(value)],
      operation: "look up a dead letter"
    ).boolean(0, 0)
  }

  /// What the view `producer_ledger` says.
  package func ledger(group: String, topic: String) throws(PostgresError) -> [LedgerSum] {
    let rows = try connection.query(
      """
      select producer, counted, duplicates, repeated, dead_lettered from producer_ledger
      where consumer_group = $1 and topic = $2
      """, [.text(group), .text(topic)], operation: "read the ledger")
    return rows.rows.indices.map {
      LedgerSum(
        producer: rows.text($0, 0) ?? "", counted: rows.integer($0, 1)!,
        duplicates: rows.integer($0, 2)!, repeated: rows.integer($0, 3)!,
        deadLettered: rows.integer($0, 4)!)
    }
  }

  // MARK: Usage

  /// Rows by hour, epoch and partition, merged or not. - Parameter license: nil: all.
  package func hours(
    in range: Minutes, license: String? = nil, meter: String? = nil, _ body: (Stored) -> Void
  ) throws {
    try forEachPage(
      """
      select log_epoch, partition, license_id, meter, (extract(epoch from hour) / 60)::bigint,
        sum(quantity), sum(event_count), min(first_offset), max(last_offset)
      from (
        select log_epoch, partition, license_id, meter, hour, quantity, event_count, first_offset, last_offset
        from usage_hour
        union all
        select log_epoch, partition, license_id, meter, hour, quantity, event_count, first_offset, last_offset
        from usage_waiting
      ) u where \(range.condition("hour")) and \(Self.filter(license, meter)) group by 1, 2, 3, 4, 5
      """, "read hours"
    ) { rows, i in body(Self.stored(rows, i, first: rows.integer(i, 7), last: rows.integer(i, 8))) }
  }

  /// The minutes within those hours that are still kept.
  package func minutes(
    in range: Minutes, license: String? = nil, meter: String? = nil, _ body: (Stored) -> Void
  ) throws {
    try forEachPage(
      """
      select log_epoch, partition, license_id, meter, (extract(epoch from hour) / 60)::bigint + minute,
        sum(quantity), sum(events)
      from (
        select log_epoch, partition, license_id, meter, hour, (e->>0)::int as minute,
          (e->>1)::numeric as quantity, (e->>2)::numeric as events
        from (
          select log_epoch, partition, license_id, meter, hour, minutes from usage_hour
          union all
          select log_epoch, partition, license_id, meter, hour, minutes from usage_waiting
        ) u, json_array_elements(('[' || u.minutes || ']')::json) e
        where \(range.condition("hour")) and \(Self.filter(license, meter))
      ) m group by 1, 2, 3, 4, 5
      """, "read minutes"
    ) { rows, i in body(Self.stored(rows, i, first: nil, last: nil)) }
  }

  /// The view `usage_by_day`.
  package func days(in range: Minutes, _ body: (Row) -> Void) throws {
    try forEachPage(
      """
      select license_id, meter, (extract(epoch from bucket_start) / 60)::bigint, '', '', quantity, event_count
      from usage_by_day where \(range.condition("bucket_start"))
      """, "read days"
    ) { rows, i in body(Self.row(rows, i)) }
  }

  /// The view `usage_by_dimension_day`.
  package func dimensions(in range: Minutes, _ body: (Row) -> Void) throws {
    try forEachPage(
      """
      select license_id, meter, (extract(epoch from bucket_start) / 60)::bigint, dimension, value,
        quantity, event_count
      from usage_by_dimension_day where \(range.condition("bucket_start"))
      """, "read dimensions"
    ) { rows, i in body(Self.row(rows, i)) }
  }

  /// Sums of `usage_by_hour` or, finer, `usage_by_minute` by meter: what an invoice would be made of.
  package func viewSums(
    license: String, meter: String?, in range: Minutes
  ) throws(PostgresError) -> [(meter: String, quantity: Int128, eventCount: Int64)] {
    let isHours = range == range.widened(to: 60)
    let rows = try connection.query(
      """
      select meter, sum(quantity), sum(event_count) from \(isHours ? "usage_by_hour" : "usage_by_minute")
      where license_id = $1 and ($2::text is null or meter = $2::text) and \(range.condition("bucket_start"))
      group by 1 order by 1
      """, [.text(license), .optional(meter)], operation: "read the view")
    return rows.rows.indices.map {
      (rows.text($0, 0) ?? "", Self.wide(rows, $0, 1), rows.integer($0, 2) ?? 0)
    }
  }

  /// Rows of `usage_by_hour` and `usage_by_minute` that are not what the storage adds up to, and
  /// running totals that are not what the days below them add up to. A total of customers' days has
  /// the customer in place of the license.
  package func disagreements(in range: Minutes) throws -> [Disagreement] {
    var found: [Disagreement] = []
    func compare(
      _ view: String, storage: String, quantity: String, events: String, named: String? = nil
    ) throws {
      try forEachPage(
        """
        select license_id, meter, (extract(epoch from bucket_start) / 60)::bigint,
          coalesce(v.q, 0), coalesce(v.n, 0), coalesce(s.q, 0), coalesce(s.n, 0)
        from (
          select license_id, meter, bucket_start, sum(\(quantity)) as q, sum(\(events)) as n
          from \(view) where \(range.condition("bucket_start")) group by 1, 2, 3
        ) v full join (
          select license_id, meter, bucket_start, sum(q) as q, sum(n) as n from (\(storage)) u
          where \(range.condition("bucket_start")) group by 1, 2, 3
        ) s using (license_id, meter, bucket_start)
        where v.q is distinct from s.q or v.n is distinct from s.n
        """, "compare \(named ?? view)"
      ) { rows, i in
        found.append(
          Disagreement(
            view: named ?? view, license: rows.text(i, 0) ?? "", meter: rows.text(i, 1) ?? "",
            start: rows.integer(i, 2)!, viewQuantity: Self.wide(rows, i, 3),
            viewEvents: rows.integer(i, 4)!, storageQuantity: Self.wide(rows, i, 5),
            storageEvents: rows.integer(i, 6)!))
      }
    }
    func both(_ columns: String) -> String {
      "select license_id, meter, \(columns) from usage_hour union all "
        + "select license_id, meter, \(columns) from usage_waiting"
    }
    // Hours that retention has dropped, and minutes that do not add up to their hour, are not shown.
    try compare(
      "usage_by_hour",
      storage: """
        select * from (\(both("hour as bucket_start, quantity as q, event_count as n"))) h
        where bucket_start > (select newest_hour_gone from usage_retention)
          or not usage_hour_gone(license_id, meter, bucket_start)
        """, quantity: "quantity", events: "event_count")
    try compare(
      "usage_by_minute",
      storage: """
        with parts as (\(both("hour, event_count, minutes"))), whole as (
          select license_id, meter, hour from parts group by 1, 2, 3
          having sum(event_count) = sum((select sum((e->>2)::numeric)
            from json_array_elements(('[' || minutes || ']')::json) e))
        )
        select license_id, meter, hour + make_interval(mins => (e->>0)::int) as bucket_start,
          (e->>1)::numeric as q, (e->>2)::numeric as n
        from parts join whole using (license_id, meter, hour),
          json_array_elements(('[' || minutes || ']')::json) e
        """, quantity: "quantity", events: "event_count")
    // Until the totals of older days are made, they are compared with nothing and read by nobody.
    let state = try connection.query(
      "select is_complete from usage_total_state", operation: "read the totals")
    guard state.boolean(0, 0) else { return found }
    try compare(
      """
      (select license_id, meter, period_start::timestamp at time zone 'UTC' as bucket_start,
        quantity, event_count from usage_total_by_period) usage_license_period
      """,
      storage: """
        select license_id, meter, period_start as bucket_start, quantity as q, event_count as n
        from usage_by_period
        """, quantity: "quantity", events: "event_count", named: "usage_license_period")
    try compare(
      """
      (select customer_id as license_id, meter, day::timestamp at time zone 'UTC' as bucket_start,
        quantity, event_count from usage_total_by_customer_day) usage_customer_day
      """,
      storage: """
        select coalesce(l.customer_id, '') as license_id, d.meter, d.bucket_start, d.quantity as q,
          d.event_count as n
        from usage_by_day d left join license l on l.license_id = d.license_id
        """, quantity: "quantity", events: "event_count", named: "usage_customer_day")
    return found
  }

  /// Rows that merges have set aside, counted in no view.
  package func quarantined() throws(PostgresError) -> [(license: String, rows: Int64)] {
    let rows = try connection.query(
      "select license_id, count(*) from usage_quarantine group by 1 order by 1",
      operation: "read the quarantine")
    return rows.rows.indices.map { (rows.text($0, 0) ?? "", rows.integer($0, 1) ?? 0) }
  }

  // MARK: Status

  package struct GroupOffsets: Sendable {
    package var group: String
    package var topic: String
    package var next: [Int32: Int64]
    /// The age of the newest commit.
    package var commitAgeSeconds: Double
  }

  package func groupOffsets() throws(PostgresError) -> [GroupOffsets] {
    let rows = try connection.query(
      """
      select consumer_group, topic, partition, next_offset, extract(epoch from clock_timestamp() - updated_at)
      from consumer_offset order by 1, 2, 3
      """, operation: "read offsets")
    var found: [GroupOffsets] = []
    for i in rows.rows.indices {
      let (group, topic) = (rows.text(i, 0) ?? "", rows.text(i, 1) ?? "")
      let age = max(rows.text(i, 4).flatMap(Double.init) ?? 0, 0)
      if found.last?.group != group || found.last?.topic != topic {
        found.append(GroupOffsets(group: group, topic: topic, next: [:], commitAgeSeconds: age))
      }
      let last = found.count - 1
      found[last].next[Int32(rows.integer(i, 2)!)] = rows.integer(i, 3)!
      found[last].commitAgeSeconds = min(found[last].commitAgeSeconds, age)
    }
    return found
  }

  package func pendingRows() throws(PostgresError) -> Int64 {
    let rows = try connection.query(
      "select count(*) from usage_unmerged", operation: "count pending rows")
    return rows.integer(0, 0) ?? 0
  }

  package struct LedgerRow: Sendable {
    package var group: String
    package var topic: String
    package var producer: String
    package var accepted: Int64?
    package var pending: Int64?
    package var dropped: Int64?
    package var counted: Int64
    package var duplicates: Int64
    package var repeated: Int64
    package var deadLettered: Int64
    package var inFlight: Int64?
    package var missing: Int64?
    package var lastReport: String?
  }

  /// The rows that want looking at first, and the sums of all.
  package func ledgerRows(
    limit: Int
  ) throws(PostgresError) -> (rows: [LedgerRow], total: Int64, missing: Int64, inFlight: Int64) {
    let sums = try connection.query(
      "select count(*), coalesce(sum(missing), 0)::bigint, coalesce(sum(in_flight), 0)::bigint from producer_ledger",
      operation: "read the ledger")
    let rows = try connection.query(
      """
      select consumer_group, topic, producer, accepted, pending, dropped, counted, duplicates, dead_lettered,
        in_flight, missing, to_char(last_report_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        repeated
      from producer_ledger
      order by coalesce(missing, 0) <> 0 desc, coalesce(in_flight, 0) <> 0 desc, last_report_at desc nulls last
      limit $1::int
      """, [.int(limit)], operation: "read the ledger")
    let found = rows.rows.indices.map { i in
      LedgerRow(
        group: rows.text(i, 0) ?? "", topic: rows.text(i, 1) ?? "", producer: rows.text(i, 2) ?? "",
        accepted: rows.integer(i, 3), pending: rows.integer(i, 4), dropped: rows.integer(i, 5),
        counted: rows.integer(i, 6) ?? 0, duplicates: rows.integer(i, 7) ?? 0,
        repeated: rows.integer(i, 12) ?? 0,
        deadLettered: rows.integer(i, 8) ?? 0, inFlight: rows.integer(i, 9),
        missing: rows.integer(i, 10), lastReport: rows.text(i, 11))
    }
    return (
      found, sums.integer(0, 0) ?? 0, sums.integer(0, 1) ?? 0, sums.integer(0, 2) ?? 0
    )
  }

  // MARK: -

  /// Reads with a cursor, so that what is held at once is a page and not the answer. Within a transaction.
  private func forEachPage(
    _ sql: String, _ operation: String, _ body: (SQLRows, Int) -> Void
  ) throws {
    let pageRows = 20_000
    try connection.query("declare audit_page no scroll cursor for \(sql)", operation: operation)
    while true {
      let rows = try connection.query("fetch \(pageRows) from audit_page", operation: operation)
      for i in rows.rows.indices { body(rows, i) }
      if rows.rows.count < pageRows { break }
    }
    try connection.query("close audit_page", operation: operation)
  }

  /// A text as SQL has it: the cursor's statement takes no parameters.
  private static func literal(_ text: String) -> String {
    // U& and backslashes need no care: `standard_conforming_strings` is on unless somebody turned
    // it off, and E'' makes no difference to that.
    var quoted = "E'"
    for scalar in text.unicodeScalars {
      if scalar == "'" || scalar == "\\" { quoted.unicodeScalars.append(scalar) }
      if scalar != "\0" { quoted.unicodeScalars.append(scalar) }
    }
    return quoted + "'"
  }

  private static func filter(_ license: String?, _ meter: String?) -> String {
    var parts = ["true"]
    if let license { parts.append("license_id = \(literal(license))") }
    if let meter { parts.append("meter = \(literal(meter))") }
    return parts.joined(separator: " and ")
  }

  private static func wide(_ rows: SQLRows, _ row: Int, _ column: Int) -> Int128 {
    rows.text(row, column).flatMap { Int128($0) } ?? 0
  }

  private static func stored(_ rows: SQLRows, _ i: Int, first: Int64?, last: Int64?) -> Stored {
    Stored(
      logEpoch: Int32(rows.integer(i, 0)!), partition: Int32(rows.integer(i, 1)!),
      license: rows.text(i, 2) ?? "", meter: rows.text(i, 3) ?? "", start: rows.integer(i, 4)!,
      quantity: wide(rows, i, 5), eventCount: rows.integer(i, 6) ?? 0, firstOffset: first ?? 0,
      lastOffset: last ?? 0)
  }

  private static func row(_ rows: SQLRows, _ i: Int) -> Row {
    Row(
      license: rows.text(i, 0) ?? "", meter: rows.text(i, 1) ?? "", start: rows.integer(i, 2)!,
      dimension: rows.text(i, 3) ?? "", value: rows.text(i, 4) ?? "",
      quantity: wide(rows, i, 5), eventCount: rows.integer(i, 6) ?? 0)
  }
}
