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

  /// Rows of `usage_by_hour` and `usage_by_minute` that differ from the sum of the storage, and
  /// running totals that differ from the sum of their days. A total of a customer's days has the
  /// customer in place of the license.
  package func disagreements(in range: Minutes) throws -> [Disagreement] {
    let hours = try compare("usage_by_hour", storage: Self.shownHours, in: range)
    let minutes = try compare("usage_by_minute", storage: Self.shownMinutes, in: range)
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
    ) { rows, i in
      found.append(
        Disagreement(
          view: named ?? view, license: rows.text(i, 0) ?? "", meter: rows.text(i, 1) ?? "",
          start: rows.integer(i, 2)!, viewQuantity: Self.wide(rows, i, 3),
          viewEvents: rows.integer(i, 4)!, storageQuantity: Self.wide(rows, i, 5),
          storageEvents: rows.integer(i, 6)!))
    }
    return found
  }

  /// The stored hours that `usage_by_hour` shows. Retention hides the hours that it has dropped.
  private static let shownHours = """
    select * from (\(stored("hour as bucket_start, quantity as q, event_count as n"))) h
    where bucket_start > (select newest_hour_gone from usage_retention)
      or not usage_hour_gone(license_id, meter, bucket_start)
    """

  /// The stored minutes that `usage_by_minute` shows. It shows only the minutes of an hour that add
  /// up to the hour.
  private static let shownMinutes = """
    with parts as (\(stored("hour, event_count, minutes"))), whole as (
      select license_id, meter, hour from parts group by 1, 2, 3
      having sum(event_count) = sum((select sum((e->>2)::numeric)
        from json_array_elements(('[' || minutes || ']')::json) e))
    )
    select license_id, meter, hour + make_interval(mins => (e->>0)::int) as bucket_start,
      (e->>1)::numeric as q, (e->>2)::numeric as n
    from parts join whole using (license_id, meter, hour),
      json_array_elements(('[' || minutes || ']')::json) e
    """

  /// Merged rows and rows that wait to be merged.
  private static func stored(_ columns: String) -> String {
    "select license_id, meter, \(columns) from usage_hour union all "
      + "select license_id, meter, \(columns) from usage_waiting"
  }
}
