/// Rows of the views and running totals that are not the sum of the storage.
extension UsageReads {
  /// A row of a view or a total that is not the sum of the storage.
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

  /// Rows of `usage_by_hour` and hours of `usage_by_minute` that differ from the sum of the
  /// storage, and running totals that differ from the sum of their days. A total of a customer's
  /// days has the customer in place of the license.
  ///
  /// - Parameter range: whole hours.
  package func disagreements(in range: Minutes) throws -> [Disagreement] {
    let hours = try compare("usage_by_hour", storage: Self.shownHours, in: range)
    let minutes = try compareMinutes(in: range)
    // Nobody reads the totals before those of older days are made, so they are not compared then.
    let state = try connection.query(
      "select is_complete from usage_total_state", operation: "read the totals")
    guard state.boolean(0, 0) else { return hours + minutes }
    let periods = try compare(
      """
      (select license_id, meter, period_start::timestamp at time zone 'UTC' as bucket_start,
        quantity, event_count from usage_total_by_period) usage_license_period
      """,
      storage: """
        select license_id, meter, period_start as bucket_start, quantity as q, event_count as n
        from usage_by_period
        """, named: "usage_license_period", in: range)
    let days = try compare(
      """
      (select customer_id as license_id, meter, day::timestamp at time zone 'UTC' as bucket_start,
        quantity, event_count from usage_total_by_customer_day) usage_customer_day
      """,
      storage: """
        select coalesce(l.customer_id, '') as license_id, d.meter, d.bucket_start, d.quantity as q,
          d.event_count as n
        from usage_by_day d left join license l on l.license_id = d.license_id
        """, named: "usage_customer_day", in: range)
    return hours + minutes + periods + days
  }

  /// - Parameter storage: a query with the columns license_id, meter, bucket_start, q and n.
  private func compare(
    _ view: String, storage: String, named: String? = nil, in range: Minutes
  ) throws -> [Disagreement] {
    var found: [Disagreement] = []
    try forEachPage(
      """
      select license_id, meter, (extract(epoch from bucket_start) / 60)::bigint,
        coalesce(v.q, 0), coalesce(v.n, 0), coalesce(s.q, 0), coalesce(s.n, 0)
      from (
        select license_id, meter, bucket_start, sum(quantity) as q, sum(event_count) as n
        from \(view) where \(range.condition("bucket_start")) group by 1, 2, 3
      ) v full join (
        select license_id, meter, bucket_start, sum(q) as q, sum(n) as n from (\(storage)) u
        where \(range.condition("bucket_start")) group by 1, 2, 3
      ) s using (license_id, meter, bucket_start)
      where v.q is distinct from s.q or v.n is distinct from s.n
      """, "compare \(named ?? view)"
    ) { rows, i in found.append(Self.disagreement(named ?? view, rows, i)) }
    return found
  }

  /// Compares the minutes that `usage_by_minute` shows with the stored ones, hour by hour: their
  /// sums, and their sums weighted by the minute, which change if something is in another minute.
  /// The view shows only the minutes of an hour that add up to the hour, and none of an hour whose
  /// row was dropped.
  private func compareMinutes(in range: Minutes) throws -> [Disagreement] {
    var found: [Disagreement] = []
    try forEachPage(
      """
      select license_id, meter, (extract(epoch from hour) / 60)::bigint, coalesce(v.q, 0),
        coalesce(v.n, 0), coalesce(s.q, 0), coalesce(s.n, 0)
      from (
        select license_id, meter, hour, sum(quantity) as q, sum(event_count) as n,
          sum(quantity::numeric * minute) as weighted_q,
          sum(event_count * minute) as weighted_n
        from usage_hour_minutes where \(range.condition("hour")) group by 1, 2, 3
      ) v full join (
        select license_id, meter, hour, sum(m.q) as q, sum(m.n) as n,
          sum(m.weighted_q) as weighted_q, sum(m.weighted_n) as weighted_n
        from (\(Self.stored("hour, event_count, minutes"))) u, lateral (
          select sum((e->>1)::bigint) as q, sum((e->>2)::bigint) as n,
            sum((e->>0)::numeric * (e->>1)::numeric) as weighted_q,
            sum((e->>0)::bigint * (e->>2)::bigint) as weighted_n
          from json_array_elements(('[' || u.minutes || ']')::json) e
        ) m
        where \(range.condition("hour")) and \(Self.isShown("hour"))
        group by 1, 2, 3 having sum(event_count) = sum(m.n)
      ) s using (license_id, meter, hour)
      where (v.q, v.n, v.weighted_q, v.weighted_n)
        is distinct from (s.q, s.n, s.weighted_q, s.weighted_n)
      """, "compare usage_by_minute"
    ) { rows, i in found.append(Self.disagreement("usage_by_minute", rows, i)) }
    return found
  }

  private static func disagreement(_ view: String, _ rows: SQLRows, _ i: Int) -> Disagreement {
    Disagreement(
      view: view, license: rows.text(i, 0) ?? "", meter: rows.text(i, 1) ?? "",
      start: rows.integer(i, 2)!, viewQuantity: wide(rows, i, 3), viewEvents: rows.integer(i, 4)!,
      storageQuantity: wide(rows, i, 5), storageEvents: rows.integer(i, 6)!)
  }

  /// The stored hours that `usage_by_hour` shows.
  private static let shownHours = """
    select * from (\(stored("hour as bucket_start, quantity as q, event_count as n"))) h
    where \(isShown("bucket_start"))
    """

  /// Retention hides the hours that it has dropped.
  private static func isShown(_ hour: String) -> String {
    """
    (\(hour) > (select newest_hour_gone from usage_retention)
      or not usage_hour_gone(license_id, meter, \(hour)))
    """
  }

  /// Merged rows and rows that wait to be merged.
  private static func stored(_ columns: String) -> String {
    "select license_id, meter, \(columns) from usage_hour union all "
      + "select license_id, meter, \(columns) from usage_waiting"
  }
}
