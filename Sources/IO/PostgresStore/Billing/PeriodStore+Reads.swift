package import Metering

extension PeriodStore {
  package enum Status: String, Sendable, CaseIterable {
    /// Usage of it is still counted, or its grace is not over.
    case open
    /// Ended, grace over, not closed.
    case due
    case closed
  }

  /// Which periods; nil selects all.
  package struct Filter: Sendable {
    package var status: Status?
    package var customer: Identifier?
    package var license: Identifier?
    /// Periods that end on this day or before it, as `2026-11-01`, UTC.
    package var endingBefore: String?
    /// How long after its end events of a period are waited for.
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

  /// Times are milliseconds since 1970.
  package struct Period: Sendable, Equatable {
    package var license: Identifier
    package var meter: String
    package var start: Int64
    package var end: Int64
    /// The counts. Those of a closed period are as they were frozen.
    package var quantity: Int64
    package var eventCount: Int64
    package var closedAt: Int64?
    package var included: Int64?
    package var overage: Int64?
    /// The customer. That of a closed period is the customer of that time. Nil means nobody.
    package var customer: Identifier?
    package var status: Status
    /// What arrived after the close, whatever invoice it goes on.
    package var lateQuantity: Int64
    package var lateEventCount: Int64

    package var id: PeriodID {
      PeriodID(license: license, meter: meter, start: UTCTime.day(start))
    }
  }

  /// In the order of licenses, meters and beginnings.
  package func periods(
    _ filter: Filter, after: PeriodID? = nil, limit: Int
  ) throws(PostgresError) -> [Period] {
    // Totals that were made once stay made, so this need not be of the snapshot of what follows.
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

  /// Nil where nothing was used of that meter in such a period, and no adjustment goes on its invoice.
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
