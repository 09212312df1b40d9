package import Metering

extension PeriodStore {
  package enum Status: String, Sendable, CaseIterable {
    /// Its usage is still counted, or its grace is not over.
    case open
    /// It has ended, its grace is over, and it is not closed.
    case due
    case closed
  }

  /// Which periods to list. Nil selects all.
  package struct Filter: Sendable {
    package var status: Status?
    package var customer: Identifier?
    package var license: Identifier?
    /// A UTC day such as `2026-11-01`. Only periods that end on this day or before it are listed.
    package var endingBefore: String?
    /// How long after its end a period waits for events.
    package var graceSeconds: Int64

    package init(
      status: Status? = nil, customer: Identifier? = nil, license: Identifier? = nil,
      endingBefore: String? = nil, graceSeconds: Int64
    ) {
      self.status = status
      self.customer = customer
      self.license = license
      self.endingBefore = endingBefore
      self.graceSeconds = graceSeconds
    }
  }

  /// A period. Times are milliseconds since 1970.
  package struct Period: Sendable, Equatable {
    package var license: Identifier
    package var meter: String
    package var start: Int64
    package var end: Int64
    /// The counts. A closed period has its frozen counts.
    package var quantity: Int64
    package var eventCount: Int64
    package var closedAt: Int64?
    package var included: Int64?
    package var overage: Int64?
    /// The customer. For a closed period, it is the customer at the time of the close. Nil means
    /// nobody.
    package var customer: Identifier?
    package var status: Status
    /// The usage that arrived after the close, on any invoice.
    package var lateQuantity: Int64
    package var lateEventCount: Int64

    package var id: PeriodID {
      PeriodID(license: license, meter: meter, start: UTCTime.day(start))
    }
  }

  /// Lists periods in the order of licenses, meters and beginnings.
  package func periods(
    _ filter: Filter, after: PeriodID? = nil, limit: Int
  ) throws(PostgresError) -> [Period] {
    // Totals that exist never disappear, so this need not use the snapshot of the following reads.
    let isComplete = try connection.prepared(
      "select is_complete from usage_total_state", operation: "read the totals"
    ).boolean(0, 0)
    let sql = PeriodSQL(filter, after: after, limit: limit)
    let text = isComplete ? sql.byTotals : sql.byDays
    var found: [Period] = []
    try connection.pipeline(
      [SQLStatement(text, sql.parameters, isComplete ? .once : .eachTime)],
      operation: "read periods"
    ) { _, row in found.append(Self.period(row)) }
    return found
  }

  /// Returns nil if the meter was not used in the period and no adjustment goes on its invoice.
  package func period(_ id: PeriodID, graceSeconds: Int64 = 0) throws(PostgresError) -> Period? {
    let start = UTCTime.milliseconds(id.start + "T00:00:00.000Z") ?? 0
    let before = UTCTime.day(start - 86_400_000)
    return try periods(
      Filter(license: id.license, graceSeconds: graceSeconds),
      after: PeriodID(license: id.license, meter: id.meter, start: before), limit: 1
    ).first { $0.id == id }
  }

  private static func period(_ row: SQLRow) -> Period {
    Period(
      license: Identifier(row.text(0) ?? ""), meter: row.text(1) ?? "",
      start: row.integer(2) ?? 0, end: row.integer(3) ?? 0,
      quantity: row.integer(4) ?? 0, eventCount: row.integer(5) ?? 0,
      closedAt: row.integer(6), included: row.integer(7), overage: row.integer(8),
      customer: row.text(9).map(Identifier.init(_:)),
      status: row.text(10).flatMap(Status.init(rawValue:)) ?? .open,
      lateQuantity: row.integer(11) ?? 0, lateEventCount: row.integer(12) ?? 0)
  }
}
