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
    /// The limits by meter. A meter without a row is unlimited.
    package var limits: [(meter: Identifier, quantity: Int64)]

    package static func == (a: License, b: License) -> Bool {
      a.customerID == b.customerID && a.plan == b.plan && a.status == b.status
        && a.periodStart == b.periodStart && a.periodEnd == b.periodEnd
        && a.limits.elementsEqual(b.limits) { $0 == $1 }
    }
  }

  /// The result, read at one snapshot.
  package struct Found: Sendable {
    /// The license. Nil if nobody registered it.
    package var license: License?
    /// The usage by meter and day (since 1970), in this order.
    package var days: [(meter: Identifier, day: Int64, quantity: Int64)] = []
    /// The sums of the period's manual adjustments, of the meters where the sum is not 0.
    package var adjustments: [Identifier: Int64] = [:]
    package var standing: UsageStore.Standing = (0, nil, 0)
  }

  /// Reads everything with one message.
  ///
  /// - Parameters:
  ///   - today: the day, in days since 1970.
  ///   - daysBack: how many days before today are read. It must be more than a period has.
  package func read(
    _ id: Identifier, today: Int64, daysBack: Int64
  ) throws(PostgresError) -> Found {
    var found = Found()
    var limits: [(meter: Identifier, quantity: Int64)] = []
    try connection.pipeline(
      [
        SQLStatement(UsageStore.standing, [], .kept),
        SQLStatement(Self.license, [.identifier(id), .integer(today)], .kept),
        SQLStatement(Self.limits, [.identifier(id)], .kept),
        SQLStatement(Self.adjustments, [.identifier(id), .integer(today)], .kept),
        SQLStatement(Self.days, [.identifier(id), .integer(today - daysBack)], .once),
      ], operation: "read the running period"
    ) { number, row in
      let first = row.text(0) ?? ""
      switch number {
      case 0: found.standing = UsageStore.standing(row)
      case 1:
        found.license = License(
          customerID: Identifier(first), plan: row.text(1) ?? "", status: row.text(2) ?? "",
          periodStart: row.integer(3) ?? 0, periodEnd: row.integer(4) ?? 0, limits: [])
      case 2: limits.append((Identifier(first), row.integer(1) ?? 0))
      case 3: found.adjustments[Identifier(first)] = row.integer(1)
      default: found.days.append((Identifier(first), row.integer(1) ?? 0, row.integer(2) ?? 0))
      }
    }
    found.license?.limits = limits
    return found
  }

  private static let license = """
    select l.customer_id, l.plan, l.status, p.first_day - date '1970-01-01',
      p.end_day - date '1970-01-01'
    from license l, period_of(l.license_id, date '1970-01-01' + $2::int) p where l.license_id = $1
    """

  private static let limits =
    "select meter, quantity from license_limit where license_id = $1 order by meter collate \"C\""

  /// They count towards limits, with the same bounds as in limit_states_make.
  private static let adjustments = """
    select e.meter,
      least(greatest(sum(e.quantity), -4000000000000000000), 4000000000000000000)::bigint
    from period_of($1, date '1970-01-01' + $2::int) p, usage_adjustment_entry e
    where e.license_id = $1 and e.kind = 'manual'
      and e.applies_to_period_start >= p.first_day and e.applies_to_period_start < p.end_day
    group by e.meter having sum(e.quantity) <> 0
    """

  /// PostgreSQL chooses the months to read when the statement runs.
  private static let days = """
    select meter, day - date '1970-01-01', sum(quantity)::bigint
    from (
      select meter, day, quantity from usage_day
      where license_id = $1 and day >= date '1970-01-01' + $2::int
      union all
      select meter, (hour at time zone 'UTC')::date, quantity
      from usage_waiting_of(array[$1::text])
      where hour >= (date '1970-01-01' + $2::int)::timestamp at time zone 'UTC'
    ) u group by 1, 2 order by 1, 2
    """
}
