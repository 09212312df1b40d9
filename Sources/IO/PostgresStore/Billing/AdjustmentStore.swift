package import Metering

/// Manual corrections of usage, and counter-entries. No correction is ever edited.
package struct AdjustmentStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The largest quantity that one manual adjustment may add or remove.
  package static let maximumQuantity: Int64 = Limits.largestQuantity

  package struct Adjustment: Sendable, Equatable {
    package var license: Identifier
    package var meter: String
    /// The first day of the period that it corrects, such as `2026-11-01`.
    package var appliesTo: String
    /// Between `-maximumQuantity` and `maximumQuantity`.
    package var quantity: Int64
    package var eventCount: Int64
    package var reason: String
    package var recordedBy: String
    /// A key that the same person has used before records nothing again.
    package var idempotencyKey: String?

    package init(
      license: Identifier, meter: String, appliesTo: String, quantity: Int64, eventCount: Int64 = 0,
      reason: String, recordedBy: String, idempotencyKey: String? = nil
    ) {
      self.license = license
      self.meter = meter
      self.appliesTo = appliesTo
      self.quantity = quantity
      self.eventCount = eventCount
      self.reason = reason
      self.recordedBy = recordedBy
      self.idempotencyKey = idempotencyKey
    }
  }

  package enum Outcome: Sendable, Equatable {
    case recorded(id: String)
    /// The same key recorded it before.
    case repeated(id: String)
    case idempotencyMismatch
    /// The day is not the first of a period. The value is the first day of the period that contains
    /// it.
    case notAPeriodStart(of: String)
    /// The period lies in the future.
    case notBegun
    /// The period lies before the license's first one, and nothing was used in it. The value is the
    /// day on which the first one begins.
    case beforeFirstPeriod(beginning: String)
    case unknownLicense
    case unknownAdjustment
    case alreadyReversed
    /// The late adjustment still grows. It is final once the period that it is invoiced with is
    /// closed.
    case stillOpen

    init(_ outcome: String, _ detail: String) throws(PostgresError) {
      switch outcome {
      case "recorded": self = .recorded(id: detail)
      case "repeated": self = .repeated(id: detail)
      case "idempotency_mismatch": self = .idempotencyMismatch
      case "not_a_period_start": self = .notAPeriodStart(of: detail)
      case "not_begun": self = .notBegun
      case "before_first_period": self = .beforeFirstPeriod(beginning: detail)
      case "unknown_license": self = .unknownLicense
      case "unknown_adjustment": self = .unknownAdjustment
      case "already_reversed": self = .alreadyReversed
      case "still_open": self = .stillOpen
      default:
        throw PostgresError(
          sqlState: SQLState.system, operation: "adjust", message: "an unknown outcome: \(outcome)")
      }
    }
  }

  /// Records a manual adjustment. It waits for a running close, and a close waits for it, so keep
  /// the transaction short.
  package func adjust(_ wanted: Adjustment) throws(PostgresError) -> Outcome {
    let rows = try connection.query(
      """
      select outcome, detail from usage_adjust($1, $2, $3::date, $4::bigint, $5::bigint, $6, $7, $8)
      """,
      [
        .identifier(wanted.license), .text(wanted.meter), .text(wanted.appliesTo),
        .integer(wanted.quantity), .integer(wanted.eventCount), .text(wanted.reason),
        .text(wanted.recordedBy), .optional(wanted.idempotencyKey),
      ], operation: "adjust")
    return try Outcome(rows.text(0, 0) ?? "", rows.text(0, 1) ?? "")
  }

  /// Records the counter-entry of an adjustment, of either kind.
  package func reverse(
    _ id: String, reason: String, recordedBy: String, idempotencyKey: String? = nil
  ) throws(PostgresError) -> Outcome {
    let rows = try connection.query(
      "select outcome, detail from usage_adjustment_reverse($1, $2, $3, $4)",
      [.text(id), .text(reason), .text(recordedBy), .optional(idempotencyKey)],
      operation: "reverse an adjustment")
    return try Outcome(rows.text(0, 0) ?? "", rows.text(0, 1) ?? "")
  }
}

extension AdjustmentStore {
  /// Which adjustments to list. Nil selects all.
  package struct Filter: Sendable {
    package var license: Identifier?
    package var customer: Identifier?
    package var meter: String?
    /// `late` or `manual`.
    package var kind: String?

    package init(
      license: Identifier? = nil, customer: Identifier? = nil, meter: String? = nil,
      kind: String? = nil
    ) {
      self.license = license
      self.customer = customer
      self.meter = meter
      self.kind = kind
    }
  }

  /// A row of `usage_adjustment`. Times are milliseconds since 1970.
  package struct Entry: Sendable, Equatable {
    package var id: String
    package var license: Identifier
    /// The customer on whose statement it is: of the closed period that it is invoiced with, or the
    /// customer that the license belongs to now. Nil means nobody.
    package var customer: Identifier?
    package var meter: String
    package var appliesTo: Int64
    package var invoiced: Int64
    package var kind: String
    package var quantity: Int64
    package var eventCount: Int64
    package var reason: String
    package var recordedBy: String
    package var recordedAt: Int64
    /// The adjustment that this one takes back.
    package var reverses: String?
    /// The counter-entry of this one.
    package var reversedBy: String?

    /// The key of its place in the list.
    package var key: [String] {
      [UTCTime.day(appliesTo), license.string, meter, id]
    }
  }

  /// Lists adjustments, newest periods first, then by license, meter and id.
  ///
  /// - Parameter after: the `key` of the previous entry.
  package func adjustments(
    _ filter: Filter, after: [String]? = nil, limit: Int
  ) throws(PostgresError) -> [Entry] {
    let key = after?.count == 4 ? after! : []
    return try read(
      """
      where ($1::text is null or a.license_id = $1)
        and ($2::text is null or (\(Self.customer) = $2 and a.license_id in (
          select i.license_id from license i where i.customer_id = $2
          union select i.license_id from usage_period_closed i where i.customer_id = $2)))
        and ($3::text is null or a.meter = $3) and ($4::text is null or a.kind = $4)
        and ($5::text is null or a.applies_to_period_start < $5::timestamp at time zone 'UTC'
          or (a.applies_to_period_start = $5::timestamp at time zone 'UTC'
            and (a.license_id, a.meter, a.adjustment_id)
              > ($6 collate "C", $7 collate "C", $8 collate "C")))
      order by a.applies_to_period_start desc, a.license_id, a.meter, a.adjustment_id collate "C"
      limit $9::int
      """,
      [
        .optional(filter.license?.string), .optional(filter.customer?.string),
        .optional(filter.meter), .optional(filter.kind), .optional(key.first),
        .optional(key.count == 4 ? key[1] : nil), .optional(key.count == 4 ? key[2] : nil),
        .optional(key.count == 4 ? key[3] : nil), .int(limit),
      ])
  }

  package func adjustment(_ id: String) throws(PostgresError) -> Entry? {
    try read("where a.adjustment_id = $1", [.text(id)]).first
  }

  private static let customer = """
    (case when x.close_id is null then l.customer_id else x.customer_id end)
    """

  private func read(
    _ condition: String, _ parameters: [SQLValue]
  ) throws(PostgresError) -> [Entry] {
    func time(_ column: String) -> String {
      "floor(extract(epoch from \(column)) * 1000)::bigint"
    }
    let rows = try connection.query(
      """
      select a.adjustment_id, a.license_id, \(Self.customer), a.meter,
        \(time("a.applies_to_period_start")), \(time("a.invoiced_period_start")), a.kind,
        a.quantity, a.event_count, a.reason, a.recorded_by, \(time("a.recorded_at")), a.reverses,
        (select r.adjustment_id from usage_adjustment_entry r where r.reverses = a.adjustment_id)
      from usage_adjustment a left join license l on l.license_id = a.license_id
      left join lateral (
        select p.close_id, p.customer_id from usage_period_closed p
        where p.license_id = a.license_id and p.meter = a.meter
          and p.period_start <= (a.invoiced_period_start at time zone 'UTC')::date
          and p.period_end > (a.invoiced_period_start at time zone 'UTC')::date
        offset 0) x on true
      \(condition)
      """, parameters, operation: "read adjustments")
    return rows.rows.indices.map { i in
      Entry(
        id: rows.text(i, 0) ?? "", license: Identifier(rows.text(i, 1) ?? ""),
        customer: rows.text(i, 2).map(Identifier.init(_:)), meter: rows.text(i, 3) ?? "",
        appliesTo: rows.integer(i, 4) ?? 0, invoiced: rows.integer(i, 5) ?? 0,
        kind: rows.text(i, 6) ?? "", quantity: rows.integer(i, 7) ?? 0,
        eventCount: rows.integer(i, 8) ?? 0, reason: rows.text(i, 9) ?? "",
        recordedBy: rows.text(i, 10) ?? "", recordedAt: rows.integer(i, 11) ?? 0,
        reverses: rows.text(i, 12), reversedBy: rows.text(i, 13))
    }
  }
}
