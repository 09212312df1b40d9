import PostgresStore

/// Statements that hold in every snapshot, whatever runs at the same time.
enum ClosingInvariant {
  private static let statements = [
    // The days of a closed period are its closed quantity and its late adjustments.
    """
    select 'days', v.*, d.quantity, d.events
    from (
      select p.license_id, p.meter, p.period_start,
        sum(p.quantity + coalesce(a.quantity, 0)) as quantity,
        sum(p.event_count + coalesce(a.events, 0)) as events
      from usage_by_period p left join (
        select license_id, meter, applies_to_period_start as period_start, sum(quantity) as quantity,
          sum(event_count) as events
        from usage_adjustment where kind = 'late' group by 1, 2, 3
      ) a using (license_id, meter, period_start)
      group by 1, 2, 3
    ) v full join (
      select d.license_id, d.meter, p.first_day::timestamp at time zone 'UTC' as period_start,
        sum(d.quantity) as quantity, sum(d.event_count) as events
      from usage_by_day d, period_of(d.license_id, (d.bucket_start at time zone 'UTC')::date) p
      group by 1, 2, 3
    ) d using (license_id, meter, period_start)
    where coalesce(v.quantity, 0) <> coalesce(d.quantity, 0)
      or coalesce(v.events, 0) <> coalesce(d.events, 0)
    """,
    // Every late adjustment has its period.
    """
    select 'stray', a.adjustment_id from usage_adjustment a
    where a.kind = 'late' and not exists (
      select from usage_by_period p where p.license_id = a.license_id and p.meter = a.meter
        and p.period_start = a.applies_to_period_start and p.closed_at is not null)
    """,
    // The running totals without late usage are equal to the view.
    """
    select 'totals', v.license_id, v.meter, v.period_start::text, t.quantity, v.quantity
    from usage_total_by_period t full join (
      select license_id, meter, (period_start at time zone 'UTC')::date as period_start, quantity,
        event_count
      from usage_by_period) v using (license_id, meter, period_start)
    where t.quantity is distinct from v.quantity or t.event_count is distinct from v.event_count
    """,
    // Both forms of the reads give the same answer.
    """
    (select 'customer', * from customer_periods_by_totals('cus_0', '2025-02-01', '2025-05-01')
      except select 'customer', * from customer_periods_by_days('cus_0', '2025-02-01', '2025-05-01'))
    union all
    (select 'customer', * from customer_periods_by_days('cus_0', '2025-02-01', '2025-05-01')
      except select 'customer', * from customer_periods_by_totals('cus_0', '2025-02-01', '2025-05-01'))
    """,
    """
    (select 'open', * from periods_open_by_totals('2025-05-01', null)
      except select 'open', * from periods_open_by_days('2025-05-01', null))
    union all
    (select 'open', * from periods_open_by_days('2025-05-01', null)
      except select 'open', * from periods_open_by_totals('2025-05-01', null))
    """,
    """
    (select 'day', * from periods_of_day_by_totals('2025-03-10')
      except select 'day', * from periods_of_day_by_days('2025-03-10'))
    union all
    (select 'day', * from periods_of_day_by_days('2025-03-10')
      except select 'day', * from periods_of_day_by_totals('2025-03-10'))
    """,
  ]

  /// Rows that break the invariant, in the caller's snapshot. Three of each kind are enough.
  static func differences(_ connection: PostgresConnection) throws -> [String] {
    try statements.flatMap { sql in
      try connection.query(sql, operation: "compare").rows.prefix(3).map {
        $0.map { $0 ?? "null" }.joined(separator: " ")
      }
    }
  }
}
