package import Metering

/// Finds licenses that may exceed a limit in their current period. A projection then decides.
package struct ProjectionReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A limit with its usage. The period is a half-open range of days since 1970.
  package struct Candidate: Sendable, Equatable {
    package var licenseID: Identifier
    package var customerID: Identifier
    package var meter: Identifier
    package var periodStart: Int64
    package var periodEnd: Int64
    package var used: Int64
    package var limit: Int64
    /// The usage of each day since `daysBack` days ago. A day without usage may be absent.
    package var days: [Int64: Int64] = [:]
  }

  /// The limits that would be used to four fifths or more at the pace of the last seven days. The
  /// limit that would be exceeded furthest comes first.
  ///
  /// - Parameters:
  ///   - customer: nil for all customers.
  ///   - daysBack: how many days before today are returned.
  /// - Complexity: it reads a week of days for all licenses, and `daysBack` days for the returned
  ///   ones.
  package func candidates(
    customer: String?, daysBack: Int64, limit: Int
  ) throws(PostgresError) -> [Candidate] {
    let rows = try connection.query(
      """
      with today as (select (now() at time zone 'UTC')::date as day),
      current as (
        select s.license_id, l.customer_id, s.meter, s.period_start, s.period_end, s.used, s.limit_quantity
        from limit_state s join license l using (license_id), today t
        where s.period_start <= t.day and t.day < s.period_end and l.status <> 'canceled'
          and ($1::text is null or l.customer_id = $1)
      ), week as (
        select d.license_id, d.meter, sum(d.quantity) as quantity from (
          select license_id, meter, day, quantity from usage_day
          union all
          select license_id, meter, (hour at time zone 'UTC')::date, quantity from usage_appended
        ) d, today t
        where d.day >= t.day - 7 and d.day < t.day group by 1, 2
      ), paced as (
        select c.*, c.used + coalesce(w.quantity, 0) / 7 * (c.period_end - t.day) as pace
        from current c left join week w using (license_id, meter), today t
      )
      select license_id, customer_id, meter, period_start - date '1970-01-01', period_end - date '1970-01-01', used,
        limit_quantity
      from paced where pace >= limit_quantity * 0.8
      order by pace - limit_quantity desc, license_id, meter limit $2::int
      """, [.optional(customer), .int(limit)], operation: "look for licenses near their limits")
    var candidates = rows.rows.indices.map { i in
      Candidate(
        licenseID: Identifier(rows.text(i, 0) ?? ""), customerID: Identifier(rows.text(i, 1) ?? ""),
        meter: Identifier(rows.text(i, 2) ?? ""), periodStart: rows.integer(i, 3) ?? 0,
        periodEnd: rows.integer(i, 4) ?? 0, used: rows.integer(i, 5) ?? 0,
        limit: rows.integer(i, 6) ?? 0)
    }
    let days = try connection.query(
      """
      select w.n, d.day - date '1970-01-01', sum(d.quantity)::bigint
      from unnest($1::text[], $2::text[]) with ordinality w(license_id, meter, n), lateral (
        select d.day, d.quantity from usage_day d
        where d.license_id = w.license_id and d.meter = w.meter
        union all
        select (a.hour at time zone 'UTC')::date, a.quantity from usage_appended a
        where a.license_id = w.license_id and a.meter = w.meter) d
      where d.day >= (now() at time zone 'UTC')::date - $3::int group by 1, 2
      """,
      [
        .identifiers(candidates.map(\.licenseID)), .identifiers(candidates.map(\.meter)),
        .integer(daysBack),
      ], operation: "read days")
    for i in days.rows.indices {
      guard let number = days.integer(i, 0), let day = days.integer(i, 1) else { continue }
      candidates[Int(number) - 1].days[day] = days.integer(i, 2)
    }
    return candidates
  }
}
