package import Metering

/// Reads usage by groups and windows, for `GET /v1/usage` and the pages.
///
/// A question names its rows by runs. They are whole days, hours of days that are cut, and minutes
/// of hours that are cut (`Billing.UsagePlan`). Whole days of customers come from the running
/// totals.
package struct UsageStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The rows to sum up, and the windows into which they fall.
  package struct Runs: Sendable, Equatable {
    /// Days since 1970.
    package var days: [Range<Int64>]
    /// Seconds since 1970.
    package var hours: [Range<Int64>]
    package var minutes: [Range<Int64>]
    /// The bounds in seconds since 1970, ascending. Window i reaches from bound i to the next
    /// bound. Two equal bounds make an empty window.
    package var bounds: [Int64]

    package init(
      days: [Range<Int64>], hours: [Range<Int64>], minutes: [Range<Int64>], bounds: [Int64]
    ) {
      self.days = days
      self.hours = hours
      self.minutes = minutes
      self.bounds = bounds
    }
  }

  package enum Windows: Sendable, Equatable {
    case bounds(Runs)
    /// Each license's billing periods, as far as they lie in the runs.
    case periods(Runs)
    /// Each license's period that a day (since 1970) lies in.
    case currentPeriod(Int64)
    /// The period before that one.
    case lastPeriod(Int64)
  }

  /// What rows are grouped by. A license implies its customer.
  package enum Dimension: String, Sendable {
    case domain
    case feature
  }

  package struct Question: Sendable {
    /// The licenses. An empty list stands for all.
    package var licenses: [Identifier] = []
    package var customers: [Identifier] = []
    package var meters: [Identifier] = []
    package var byLicense = true
    package var byCustomer = false
    package var byMeter = true
    /// A dimension to group by in place of license, customer and meter.
    package var dimension: Dimension?
    package var windows: Windows
    /// The same windows one range earlier.
    package var previous: Runs?
    /// How many of the largest groups are returned. The others are combined into `(other)`.
    package var top: Int?
    package var fillsWindows = false

    package init(windows: Windows) { self.windows = windows }

    /// Whether `page` first asks which running totals exist. Then it needs a transaction around it,
    /// so that both reads see one snapshot.
    package var mayReadTotals: Bool {
      licenses.isEmpty && (customers.isEmpty || !byLicense) && dimension == nil
    }

    /// The key of one of the question's rows.
    package func key(of row: Row) -> Key {
      let texts = [
        "license_id": row.license, "customer_id": row.customer, "meter": row.meter,
        "value": row.value,
      ]
      let columns = UsageSQL(self, .none, namesFew: true).keyColumns
      return Key(group: columns.map { (texts[$0] ?? nil) ?? "" }, window: row.window)
    }
  }

  /// The key of a row, after which a list goes on.
  package struct Key: Sendable, Equatable {
    package var group: [String]
    package var window: Int64

    package init(group: [String], window: Int64) {
      self.group = group
      self.window = window
    }
  }

  package struct Row: Sendable, Equatable {
    /// The license. Nil if rows are not by license. It is `(other)` for the combined groups.
    package var license: String?
    /// The customer. It is also nil for licenses that nobody registered.
    package var customer: String?
    package var meter: String?
    package var value: String?
    /// The number of the window from 0, or the period's first day since 1970.
    package var window: Int64
    /// The day after the period's last day.
    package var periodEnd: Int64
    package var quantity: Int64
    package var eventCount: Int64
    package var previous: Int64
  }

  /// A page of an answer, read at one snapshot.
  package struct Page: Sendable {
    package var rows: [Row] = []
    /// Whether the hours that are read by minute still have all their minutes.
    package var hasMinutes = true
    package var standing: Standing = (0, nil, 0)
  }

  /// The rows, and how far they are complete. If the question names licenses, this takes one round
  /// trip.
  ///
  /// - Parameters:
  ///   - minutes: the hours that are read by minute.
  ///   - after: only rows after this one.
  ///   - limit: the largest number of rows.
  /// - Throws: 22003 if a sum does not fit into 64 bits.
  package func page(
    _ question: Question, minutes: [Range<Int64>] = [], after: Key? = nil, limit: Int
  ) throws(PostgresError) -> Page {
    var statements = [SQLStatement(Self.standing, [], .kept)]
    if !minutes.isEmpty { statements.append(brokenHours(question, minutes)) }
    statements.append(try statement(question, after: after, limit: limit))
    let last = statements.count - 1
    var page = Page()
    page.rows.reserveCapacity(min(limit, 1_000))
    try connection.pipeline(statements, operation: "read usage") { number, row in
      if number == last {
        page.rows.append(UsageSQL.row(row))
      } else if number == 0 {
        page.standing = Self.standing(row)
      } else {
        page.hasMinutes = false
      }
    }
    return page
  }

  /// - Parameters:
  ///   - limit: the largest number of rows.
  /// - Throws: 22003 if a sum does not fit into 64 bits.
  package func rows(_ question: Question, limit: Int) throws(PostgresError) -> [Row] {
    let statement = try statement(question, after: nil, limit: limit)
    var rows: [Row] = []
    try connection.pipeline([statement], operation: "read usage") { _, row in
      rows.append(UsageSQL.row(row))
    }
    return rows
  }

  /// The meters with the most events, at most `most`, and the number of all meters that were used.
  package func busiestMeters(
    _ question: Question, most: Int
  ) throws(PostgresError) -> (meters: [Identifier], all: Int64) {
    var sql = UsageSQL(question, try totals(question), namesFew: try namesFew(question))
    let text = sql.busiestMeters(most)
    let rows = try connection.query(text, sql.parameters, operation: "read meters")
    return (
      rows.rows.map { Identifier($0[0] ?? "") },
      rows.rows.isEmpty ? 0 : rows.integer(0, 1) ?? 0
    )
  }

  private func statement(
    _ question: Question, after: Key?, limit: Int
  ) throws(PostgresError) -> SQLStatement {
    let isFew = try namesFew(question)
    var sql = UsageSQL(question, try totals(question), namesFew: isFew)
    let text = sql.statement(after: after, limit: limit)
    return SQLStatement(text, sql.parameters, sql.plansOnce ? .onceByBlocks : .eachTime)
  }

  /// PostgreSQL's plan for `rows`, line by line.
  package func plan(_ question: Question, limit: Int) throws(PostgresError) -> [String] {
    let statement = try statement(question, after: nil, limit: limit)
    guard statement.planning == .onceByBlocks else {
      return try connection.query(
        "explain " + statement.sql, statement.parameters, operation: "explain usage"
      ).rows.map { $0[0] ?? "" }
    }
    let values = try SQLParameters(statement.parameters, "explain usage").literals
    try connection.execute(
      """
      set plan_cache_mode = force_generic_plan;
      set enable_indexscan = off; set enable_seqscan = off;
      prepare usage_rows as \(statement.sql)
      """)
    let rows = try connection.query(
      "explain execute usage_rows (\(values.joined(separator: ", ")))", operation: "explain usage")
    try connection.execute(
      "reset plan_cache_mode; reset enable_indexscan; reset enable_seqscan; deallocate usage_rows")
    return rows.rows.map { $0[0] ?? "" }
  }

  /// Begins to read all rows page by page within a transaction. Go on with `nextRows`.
  package func open(_ question: Question) throws(PostgresError) {
    let isFew = try namesFew(question)
    var sql = UsageSQL(question, try totals(question), namesFew: isFew)
    let text = sql.statement(after: nil, limit: nil)
    try connection.query(
      "declare usage_rows no scroll cursor for " + text, sql.parameters, operation: "read usage")
  }

  /// The next rows after `open`. Fewer than `count` rows are the last ones.
  package func nextRows(_ count: Int) throws(PostgresError) -> [Row] {
    try connection.query(
      "fetch \(count) from usage_rows", operation: "read usage", each: UsageSQL.row)
  }

  /// Which running totals exist.
  struct Totals {
    /// Whether the totals of customers' days and licenses' periods exist.
    var hasDays: Bool
    /// The second from which on the totals of meters' hours exist. A fold may have dropped earlier
    /// ones. Nil if that is not known.
    var meterHoursFrom: Int64?

    static let none = Totals(hasDays: false, meterHoursFrom: nil)
  }

  /// The largest number of licenses that are read in one walk. With more licenses, PostgreSQL would
  /// compare all of them with every row of a block that it does not remember row by row.
  private static let few: Int64 = 1_000

  private func namesFew(_ question: Question) throws(PostgresError) -> Bool {
    // A question names at most a hundred licenses.
    if question.customers.isEmpty || !question.licenses.isEmpty { return true }
    let found = try connection.prepared(
      "select count(*) from (select from license where customer_id = any ($1::text[]) limit $2) l",
      [.identifiers(question.customers), .integer(Self.few + 1)], operation: "count licenses")
    return (found.integer(0, 0) ?? 0) <= Self.few
  }

  private func totals(_ question: Question) throws(PostgresError) -> Totals {
    guard question.mayReadTotals else { return .none }
    let rows = try connection.prepared(
      """
      select is_complete, (select extract(epoch from greatest(
          complete_from, now() - interval '\(SchemaContract.hourDays + 1) days'))::bigint
        from usage_meter_hour_state)
      from usage_total_state
      """, operation: "read the totals")
    return Totals(hasDays: rows.boolean(0, 0), meterHoursFrom: rows.integer(0, 1))
  }

  /// Whether the hours that are read by minute still have all their minutes. Retention deletes
  /// minutes 7 days after they were last written.
  package func hasMinutes(
    _ question: Question, _ minutes: [Range<Int64>]
  ) throws(PostgresError) -> Bool {
    if minutes.isEmpty { return true }
    let statement = brokenHours(question, minutes)
    return try connection.query(
      statement.sql, statement.parameters, operation: "check the minutes"
    ).isEmpty
  }

  /// A statement that returns a row if minutes are missing.
  private func brokenHours(_ question: Question, _ minutes: [Range<Int64>]) -> SQLStatement {
    var sql = UsageSQL(question, .none, namesFew: false)
    let text = sql.brokenHours(minutes)
    return SQLStatement(text, sql.parameters)
  }

  /// The customers of licenses, without licenses that nobody registered.
  package func customers(of licenses: [Identifier]) throws(PostgresError) -> [(
    license: Identifier, customer: Identifier
  )] {
    try connection.query(
      "select license_id, customer_id from license where license_id = any ($1::text[])",
      [.identifiers(licenses)], operation: "read customers"
    ).rows.map { (Identifier($0[0] ?? ""), Identifier($0[1] ?? "")) }
  }

  /// The time of the snapshot, the time up to which everything that the log had received is counted
  /// (nil if it is not known yet), and the ledger's count of lost usage events. Times are in
  /// milliseconds since 1970.
  package typealias Standing = (asOf: Int64, completeThrough: Int64?, missing: Int64)

  package func standing() throws(PostgresError) -> Standing {
    var found: Standing = (0, nil, 0)
    try connection.pipeline(
      [SQLStatement(Self.standing, [], .kept)], operation: "read how far usage is"
    ) { _, row in found = Self.standing(row) }
    return found
  }

  static let standing = """
    select (extract(epoch from now()) * 1000)::bigint,
      (select floor(extract(epoch from complete_through) * 1000)::bigint from usage_progress),
      (select \(LedgerStore.sum("missing")) from producer_ledger
        where consumer_group = 'usage-aggregator' and topic = 'license.usage.v1')
    """

  static func standing(_ row: SQLRow) -> Standing {
    (row.integer(0) ?? 0, row.integer(1), row.integer(2) ?? 0)
  }
}
