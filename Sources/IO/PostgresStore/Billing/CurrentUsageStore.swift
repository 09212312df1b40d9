package import Metering

/// What a license has used in its current period, and on the days before it.
package struct CurrentUsageStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct License: Sendable, Equatable {
    package var customerID: Identifier
    package var plan: String
    package var status: String
    /// The period that `today` lies in, in days since 1970. The end is not part of it.
    package var periodStart: Int64
    package var periodEnd: Int64
    /// By meter; a meter without a row is unlimited.
    package var limits: [(meter: Identifier, quantity: Int64)]

    package static func == (a: License, b: License) -> Bool {
      a.customerID == b.customerID && a.plan == b.plan && a.status == b.status
        && a.periodStart == b.periodStart && a.periodEnd == b.periodEnd
        && a.limits.elementsEqual(b.limits) { $0 == $1 }
    }
  }

  /// Nil: nobody registered it.
  ///
  /// - Parameter today: days since 1970.
  package func license(_ id: Identifier, today: Int64) throws(PostgresError) -> License? {
    let rows = try connection.query(
      """
      select l.customer_id, l.plan, l.status, p.first_day - date '1970-01-01',
        p.end_day - date '1970-01-01'
      from license l, period_of(l.license_id, date '1970-01-01' + $2::int) p where l.license_id = $1
      """, [.identifier(id), .integer(today)], operation: "read the license")
    guard let row = rows.rows.first else { return nil }
    let limits = try connection.query(
      "select meter, quantity from license_limit where license_id = $1 order by meter collate \"C\"",
      [.identifier(id)], operation: "read limits")
    return License(
      customerID: Identifier(row[0] ?? ""), plan: row[1] ?? "", status: row[2] ?? "",
      periodStart: rows.integer(0, 3) ?? 0, periodEnd: rows.integer(0, 4) ?? 0,
      limits: limits.rows.indices.map {
        (Identifier(limits.text($0, 0) ?? ""), limits.integer($0, 1) ?? 0)
      })
  }

  /// What was used on days from `from` on, by meter and day, both since 1970.
  package func days(
    _ id: Identifier, from: Int64
  ) throws(PostgresError) -> [(meter: Identifier, day: Int64, quantity: Int64)] {
    let rows = try connection.query(
      """
      select meter, day - date '1970-01-01', sum(quantity)::bigint
      from (
        select meter, day, quantity from usage_day
        where license_id = $1 and day >= date '1970-01-01' + $2::int
        union all
        select meter, (hour at time zone 'UTC')::date, quantity from usage_waiting
        where license_id = $1 and hour >= (date '1970-01-01' + $2::int)::timestamp at time zone 'UTC'
      ) u group by 1, 2 order by 1, 2
      """, [.identifier(id), .integer(from)], operation: "read days")
    return rows.rows.indices.map {
      (
        Identifier(rows.text($0, 0) ?? ""), rows.integer($0, 1) ?? 0, rows.integer($0, 2) ?? 0
      )
    }
  }
}
