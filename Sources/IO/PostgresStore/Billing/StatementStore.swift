package import Metering

/// The usage of a customer in the periods that end in a month, as an invoice needs it.
package struct StatementStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct Month: Sendable, Equatable {
    /// A month such as `2026-11`.
    package var month: String
    package var isClosed: Bool
    package var periods: Int64
    package var openPeriods: Int64
    /// When the last of its periods was closed, in milliseconds since 1970, to the second as in the
    /// statement. Nil while one is open.
    package var closedAt: Int64?
  }

  /// The periods of `$1` by the month of their last day. A closed period belongs to the customer
  /// who had the license at the close. Other periods belong to the present customer.
  private static let lines = """
    line as materialized (
      select x.license_id, x.meter, x.period_start, x.period_end, x.quantity, x.event_count,
        x.included, x.overage, x.closed_at, x.customer_name
      from usage_period_closed x where x.customer_id = $1
        and x.period_end > $2::date and x.period_end <= $3::date
      union all
      select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity)::bigint,
        sum(u.event_count)::bigint, l.quantity, null, null, null
      from (
        select c.license_id, c.meter, c.period_start, c.period_end, c.quantity, c.event_count
        from customer_usage_by_period($1, $2::date - 31, $3::date) c
        union all
        select a.license_id, a.meter, a.period_start, a.period_end, 0, 0
        from periods_open_adjusted($3::date, $1) a
      ) u left join license_limit l on l.license_id = u.license_id and l.meter = u.meter
      where u.period_end > $2::date and u.period_end <= $3::date
        and not exists (
          select from license_closing k where k.license_id = u.license_id
            and u.period_start < k.closed_through)
        and not exists (
          select from usage_period_closed x where x.license_id = u.license_id and x.meter = u.meter
            and x.period_start = u.period_start)
      group by u.license_id, u.meter, u.period_start, u.period_end, l.quantity
    )
    """

  /// The adjustments of the licenses of some lines.
  private static func adjustment(of lines: String) -> String {
    """
    adjustment as materialized (
      select a.* from usage_adjustment a where a.license_id in (select license_id from \(lines))
    )
    """
  }

  /// Whether an adjustment `a` is invoiced with the line `n`.
  private static let isInvoiced = """
    a.license_id = n.license_id and a.meter = n.meter
      and a.invoiced_period_start >= n.period_start::timestamp at time zone 'UTC'
      and a.invoiced_period_start < n.period_end::timestamp at time zone 'UTC'
    """

  /// The months with a statement, newest first. If `before` is given, only earlier months are
  /// listed.
  package func months(
    customer: Identifier, before: String? = nil, limit: Int
  ) throws(PostgresError) -> [Month] {
    let rows = try connection.query(
      """
      with \(Self.lines), empty as materialized (
        select * from line where event_count = 0 and quantity = 0
      ), \(Self.adjustment(of: "empty")), told as (
        -- The lines of document().
        select * from line where event_count <> 0 or quantity <> 0
        union all
        select n.* from empty n where exists (select from adjustment a where \(Self.isInvoiced))
      )
      select to_char(period_end - 1, 'YYYY-MM') as month, count(*),
        count(*) filter (where closed_at is null),
        floor(extract(epoch from max(closed_at)))::bigint * 1000,
        (date_trunc('month', max(period_end) - 1) + interval '1 month')
          <= (now() at time zone 'UTC')
      from told group by 1 order by 1 desc limit $4::int
      """,
      [
        .identifier(customer), .text("-infinity"),
        .text(before.map { $0 + "-01" } ?? "infinity"), .int(limit),
      ], operation: "list statements")
    return rows.rows.indices.map { i in
      let open = rows.integer(i, 2) ?? 0
      return Month(
        month: rows.text(i, 0) ?? "", isClosed: open == 0 && rows.boolean(i, 4),
        periods: rows.integer(i, 1) ?? 0, openPeriods: open,
        closedAt: open == 0 ? rows.integer(i, 3) : nil)
    }
  }

  /// The statement as a JSON object, without its links and signature.
  ///
  /// A closed statement never changes. Late usage is on a later statement.
  ///
  /// - Parameter month: a valid month such as `2026-11`.
  /// - Returns: nil if there is no such customer.
  package func document(
    customer: Identifier, month: String
  ) throws(PostgresError) -> String? {
    try connection.query(
      """
      with \(Self.lines), \(Self.adjustment(of: "line")), told as materialized (
        select n.*, l.items, coalesce(l.quantity, 0) as adjusted,
          coalesce(n.overage, case when n.included is null then 0
            else greatest(n.quantity + coalesce(l.own, 0) - n.included, 0) end) as over_included
        from line n left join lateral (
          select sum(a.quantity)::bigint as quantity,
            sum(a.quantity) filter (where a.kind = 'manual'
              and a.applies_to_period_start = n.period_start::timestamp at time zone 'UTC') as own,
            json_agg(json_build_object('adjustment_id', a.adjustment_id, 'kind', a.kind,
              'applies_to_period_start', \(Self.time("a.applies_to_period_start")),
              'quantity', a.quantity, 'event_count', a.event_count, 'reason', a.reason)
              order by a.applies_to_period_start, a.adjustment_id) as items
          from adjustment a where \(Self.isInvoiced)) l on true
        -- Made by a late event of a meter that was not used: nothing of it is invoiced here.
        where n.event_count <> 0 or n.quantity <> 0 or l.items is not null
      ), state as materialized (
        select exists (select from told) and $3::date <= (now() at time zone 'UTC')::date
          and not exists (select from told where closed_at is null) as is_closed
      )
      select json_build_object('customer_id', c.customer_id,
        -- The name at the last close. Periods that were closed before schema 37 have none.
        'name', coalesce((
          select t.customer_name from told t
          where t.customer_name is not null and (select is_closed from state)
          order by t.closed_at desc, t.license_id, t.meter limit 1), c.name),
        'month', $4::text,
        'status', case when (select is_closed from state) then 'closed' else 'open' end,
        'closed_at', (select case when count(*) = count(closed_at)
          then \(Self.time("max(closed_at)")) end from told),
        'lines', (select coalesce(json_agg(json_build_object('license_id', t.license_id,
            'meter', t.meter, 'period_id', t.license_id || ':' || t.meter || ':' || t.period_start,
            'period_start', \(Self.time("t.period_start")), 'period_end', \(Self.time("t.period_end")),
            'status', case when t.closed_at is null then 'open' else 'closed' end,
            'quantity', t.quantity, 'event_count', t.event_count, 'included', t.included,
            'overage', t.over_included, 'adjustments', coalesce(t.items, '[]'),
            'adjustment_quantity', t.adjusted, 'billable_quantity', t.quantity + t.adjusted,
            'by_domain', (
              select coalesce(json_agg(json_build_object('domain', d.domain, 'quantity', d.quantity,
                'event_count', d.event_count) order by d.quantity desc, d.domain), '[]')
              from period_domains(t.license_id, t.meter, t.period_start, t.period_end) d))
            order by t.license_id, t.meter, t.period_start), '[]') from told t),
        'totals', (select coalesce(json_agg(json_build_object('meter', s.meter,
            'quantity', s.quantity, 'overage', s.overage, 'adjustment_quantity', s.adjusted,
            'billable_quantity', s.quantity + s.adjusted) order by s.meter), '[]')
          from (
            select meter, sum(quantity) as quantity, sum(over_included) as overage,
              sum(adjusted) as adjusted
            from told group by 1) s))
      from customer c where c.customer_id = $1
      """,
      [
        .identifier(customer), .text(month + "-01"), .text(Self.nextMonth(month) + "-01"),
        .text(month),
      ], operation: "make a statement"
    ).rows.first?[0]
  }

  private static func time(_ column: String) -> String {
    "to_char((\(column))::timestamptz at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
  }

  /// The month after a month, such as `2027-01` for `2026-12`.
  private static func nextMonth(_ month: String) -> String {
    let year = Int(month.prefix(4)) ?? 1970
    let number = Int(month.suffix(2)) ?? 1
    let (nextYear, next) = number == 12 ? (year + 1, 1) : (year, number + 1)
    func digits(_ value: Int, _ count: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    return digits(nextYear, 4) + "-" + digits(next, 2)
  }
}

extension StatementStore {
  package func knows(_ customer: Identifier) throws(PostgresError) -> Bool {
    try connection.query(
      "select exists (select from customer where customer_id = $1)", [.identifier(customer)],
      operation: "look up a customer"
    ).boolean(0, 0)
  }
}
