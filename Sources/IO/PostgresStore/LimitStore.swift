package import Metering

/// How far the limits of licenses are from their next thresholds.
package struct LimitStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// Sums up the states of changed limits again.
  ///
  /// - Returns: the number of states; `most` if there may be more.
  package func sweep(most: Int) throws(PostgresError) -> Int {
    let rows = try connection.query(
      "select limit_sweep($1::int)", [.int(most)], operation: "judge changed limits")
    return Int(rows.integer(0, 0) ?? 0)
  }

  /// What each license and meter may still use before its next threshold, in the order of the
  /// arguments; nil if there is no further threshold.
  ///
  /// - Precondition: `licenses` and `meters` have the same number of elements.
  package func left(
    licenses: [Identifier], meters: [Identifier]
  ) throws(PostgresError) -> [Int64?] {
    let rows = try connection.query(
      """
      select d.place::int - 1,
        (select s.next_quantity - s.used from limit_state s
          where s.license_id = d.license_id and s.meter = d.meter
          order by s.period_start desc limit 1)
      from unnest($1::text[], $2::text[]) with ordinality d(license_id, meter, place)
      """, [.identifiers(licenses), .identifiers(meters)], operation: "read limits")
    var left = [Int64?](repeating: nil, count: licenses.count)
    for i in rows.rows.indices { left[Int(rows.integer(i, 0)!)] = rows.integer(i, 1) }
    return left
  }

  package struct State: Sendable {
    package let license: Identifier
    package let meter: Identifier
    /// What may still be used before the next threshold.
    package let left: Int64
    /// A state that changes gets a higher version.
    package let version: Int64
  }

  /// The states of current periods that were written after `version`.
  package func states(newerThan version: Int64) throws(PostgresError) -> [State] {
    let rows = try connection.query(
      """
      select license_id, meter, next_quantity - used, version from limit_state
      where version > $1 and next_quantity is not null
        and period_end > (now() at time zone 'UTC')::date
      """, [.integer(version)], operation: "read limits")
    return rows.rows.indices.map {
      State(
        license: Identifier(rows.text($0, 0)!), meter: Identifier(rows.text($0, 1)!),
        left: rows.integer($0, 2)!, version: rows.integer($0, 3)!)
    }
  }
}
