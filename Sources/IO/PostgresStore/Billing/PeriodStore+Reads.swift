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
    let isComplete = try connection.query(
      "select is_complete from usage_total_state", operation: "read the totals"
    ).boolean(0, 0)
    let rows = try connection.query(
      (isComplete ? Self.pageByTotals : Self.pageByDays) + Self.shown,
      [
        .optional(filter.license?.string), .optional(filter.customer?.string),
        .optional(filter.endingBefore), .optional(filter.status?.rawValue),
        .integer(filter.graceSeconds), .optional(after?.license.string),
        .optional(after?.meter), .optional(after?.start), .int(limit),
      ], operation: "read periods")
    return rows.rows.indices.map { Self.period(rows, $0) }
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

  private static func period(_ rows: SQLRows, _ i: Int) -> Period {
    Period(
      license: Identifier(rows.text(i, 0) ?? ""), meter: rows.text(i, 1) ?? "",
      start: rows.integer(i, 2) ?? 0, end: rows.integer(i, 3) ?? 0,
      quantity: rows.integer(i, 4) ?? 0, eventCount: rows.integer(i, 5) ?? 0,
      closedAt: rows.integer(i, 6), included: rows.integer(i, 7), overage: rows.integer(i, 8),
      customer: rows.text(i, 9).map(Identifier.init(_:)),
      status: rows.text(i, 10).flatMap(Status.init(rawValue:)) ?? .open,
      lateQuantity: rows.integer(i, 11) ?? 0, lateEventCount: rows.integer(i, 12) ?? 0)
  }

  /// Conditions on the key and the end of a row `t`, whose columns are those of a total.
  private static let wanted = """
    ($1::text is null or t.license_id = $1)
      and ($3::text is null or t.period_end <= $3::date)
      and ($6::text is null
        or (t.license_id, t.meter, t.period_start) > ($6 collate "C", $7 collate "C", $8::date))
    """

  /// The same on a row that is not closed, of one of the customer's licenses.
  private static let open = """
    \(openOfAny)
      and ($2::text is null or t.license_id in (
        select l.license_id from license l where l.customer_id = $2))
    """

  /// The same, reached by the customer's licenses and not by walking over all of them.
  private static let openByIndex = """
    \(openOfAny)
      and ($2::text is null or t.license_id = any (array(
        select l.license_id from license l where l.customer_id = $2)))
    """

  private static let openOfAny = """
    \(wanted) and coalesce($4, 'open') <> 'closed'
      and ($4::text is null or (t.period_end::timestamp at time zone 'UTC'
        + make_interval(secs => $5::bigint) <= now()) = ($4 = 'due'))
      and not exists (
        select from license_closing c where c.license_id = t.license_id
          and t.period_start < c.closed_through)
      and not exists (
        select from usage_period_closed x where x.license_id = t.license_id and x.meter = t.meter
          and x.period_start = t.period_start)
    """

  private static let closedPage = """
    (select t.license_id, t.meter, t.period_start, t.period_end from usage_period_closed t
      where \(wanted) and coalesce($4, 'closed') = 'closed'
        and ($2::text is null or t.customer_id = $2)
      order by 1, 2, 3 limit $9::int)
    """

  /// The keys of a page: each source gives its first rows by its index, and the first of all are taken.
  private static let pageByTotals = """
    with unfolded as materialized (
      select w.license_id, w.meter,
        greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from) as period_start,
        least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until) as period_end,
        sum(w.quantity) as quantity, sum(w.event_count) as event_count
      from usage_unfolded w
      left join billing_interval b on b.license_id = w.license_id
        and b.effective_from <= w.day and (w.day < b.until or b.until is null)
      where ($1::text is null or w.license_id = $1)
        and ($2::text is null or w.license_id in (
          select l.license_id from license l where l.customer_id = $2))
      group by 1, 2, 3, 4
    ), page as materialized (
      select license_id, meter, period_start, min(period_end) as period_end from (
        \(closedPage)
        union all
        (select t.license_id, t.meter, t.period_start, t.period_end from usage_license_period t
          where \(openByIndex) order by 1, 2, 3 limit $9::int)
        union all
        (select t.license_id, t.meter, t.period_start, t.period_end from unfolded t
          where \(open) order by 1, 2, 3 limit $9::int)
        union all
        (select t.license_id, t.meter, t.period_start, t.period_end
          from periods_open_adjusted('infinity', $2) t
          where \(open) order by 1, 2, 3 limit $9::int)
      ) u group by 1, 2, 3 order by 1, 2, 3 limit $9::int
    ), used as (
      select p.*, coalesce(t.quantity, 0) + coalesce(w.quantity, 0) as quantity,
        coalesce(t.event_count, 0) + coalesce(w.event_count, 0) as event_count
      from page p
      left join usage_license_period t using (license_id, meter, period_start)
      left join unfolded w using (license_id, meter, period_start)
    )
    """

  /// While the totals of older days are made.
  private static let pageByDays = """
    with sums as materialized (
      select v.license_id, v.meter, (v.period_start at time zone 'UTC')::date as period_start,
        (v.period_end at time zone 'UTC')::date as period_end, v.quantity, v.event_count
      from usage_by_period v
      where v.closed_at is null and ($1::text is null or v.license_id = $1)
    ), page as materialized (
      select license_id, meter, period_start, min(period_end) as period_end from (
        \(closedPage)
        union all
        (select t.license_id, t.meter, t.period_start, t.period_end from sums t
          where \(open) order by 1, 2, 3 limit $9::int)
        union all
        (select t.license_id, t.meter, t.period_start, t.period_end
          from periods_open_adjusted('infinity', $2) t
          where \(open) order by 1, 2, 3 limit $9::int)
      ) u group by 1, 2, 3 order by 1, 2, 3 limit $9::int
    ), used as (
      select p.*, coalesce(t.quantity, 0) as quantity, coalesce(t.event_count, 0) as event_count
      from page p left join sums t using (license_id, meter, period_start)
    )
    """

  /// The rows of a page, with what is frozen of those that are closed.
  private static let shown = """
     select u.license_id, u.meter,
      (extract(epoch from u.period_start) * 1000)::bigint,
      (extract(epoch from u.period_end) * 1000)::bigint,
      coalesce(x.quantity, u.quantity)::bigint, coalesce(x.event_count, u.event_count)::bigint,
      floor(extract(epoch from x.closed_at) * 1000)::bigint, x.included, x.overage,
      case when x.close_id is null then l.customer_id else x.customer_id end,
      case when x.close_id is not null then 'closed'
        when u.period_end::timestamp at time zone 'UTC' + make_interval(secs => $5::bigint) <= now()
        then 'due' else 'open' end,
      coalesce(a.quantity, 0) + coalesce(p.quantity, 0),
      coalesce(a.event_count, 0) + coalesce(p.event_count, 0)
    from used u
    left join usage_period_closed x using (license_id, meter, period_start)
    left join license l using (license_id)
    left join usage_late a using (license_id, meter, period_start)
    left join usage_late_pending p using (license_id, meter, period_start)
    order by 1, 2, 3
    """
}
