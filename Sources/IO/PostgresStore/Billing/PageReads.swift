package import Metering

/// Reads what pages show and no operation of the API answers.
package struct PageReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// How much of a limit a license has used in the current period.
  package struct LimitUse: Sendable, Equatable {
    package var license: Identifier
    package var customer: Identifier?
    package var meter: String
    package var used: Int64
    package var limit: Int64
  }

  /// The licenses that have used at least `percent` of a limit, most used first.
  ///
  /// - Parameter customer: the customer of the licenses, or nil for all customers.
  package func nearLimits(
    percent: Int, customer: Identifier?, limit: Int
  ) throws(PostgresError) -> [LimitUse] {
    try uses(
      """
      where s.used > 0 and s.used::float8 * 100 >= s.limit_quantity::float8 * $1::int
        and ($2::text is null or l.customer_id = $2)
      order by s.used::float8 / greatest(s.limit_quantity, 1) desc, s.license_id limit $3::int
      """, [.int(percent), .optional(customer?.string), .int(limit)])
  }

  /// The most used limit of each license that has limits.
  package func uses(
    of licenses: [Identifier]
  ) throws(PostgresError) -> [Identifier: LimitUse] {
    let found = try uses(
      """
      where s.license_id = any ($1::text[])
      order by s.license_id, s.used::float8 / greatest(s.limit_quantity, 1)
      """, [.identifiers(licenses)])
    return Dictionary(found.map { ($0.license, $0) }) { _, last in last }
  }

  private func uses(
    _ condition: String, _ parameters: [SQLValue]
  ) throws(PostgresError) -> [LimitUse] {
    let rows = try connection.query(
      """
      with today as (select (now() at time zone 'UTC')::date as day)
      select s.license_id, l.customer_id, s.meter, s.used, s.limit_quantity
      from limit_state s join today t on s.period_start <= t.day and s.period_end > t.day
      left join license l on l.license_id = s.license_id
      \(condition)
      """, parameters, operation: "read used limits")
    return rows.rows.indices.map { i in
      LimitUse(
        license: Identifier(rows.text(i, 0) ?? ""),
        customer: rows.text(i, 1).map(Identifier.init(_:)), meter: rows.text(i, 2) ?? "",
        used: rows.integer(i, 3) ?? 0, limit: rows.integer(i, 4) ?? 0)
    }
  }

  /// A resource with the id that was searched for.
  package struct Hit: Sendable, Equatable {
    package enum Kind: String, Sendable {
      case license
      case customer
      case endpoint
      case delivery
      case alert
      case token
      case unregistered
    }
    package var kind: Kind
    package var id: String
    /// The customer it belongs to. Nil means the vendor.
    package var customer: Identifier?
    package var detail: String
  }

  /// Finds the license, customer, endpoint, token, delivery, alert or bound domain with this id. A
  /// domain finds at most 20 licenses.
  package func find(_ id: String) throws(PostgresError) -> [Hit] {
    let rows = try connection.query(
      """
      select 'license', license_id, customer_id, status || ', plan ' || plan from license
        where license_id = $1
      union all select 'customer', customer_id, customer_id, name from customer
        where customer_id = $1
      union all select 'endpoint', endpoint_id, customer_id, url from webhook_endpoint
        where endpoint_id = $1
      union all select 'token', token_id, customer_id, name from api_token where token_id = $1
      union all select 'delivery', delivery_id::text, e.customer_id, d.status || ', to ' || e.url
        from webhook_delivery d join webhook_endpoint e using (endpoint_id)
        where $2::bigint is not null and d.delivery_id = $2::bigint
      union all select 'alert', alert_id::text, customer_id, type from alert
        where $2::bigint is not null and alert_id = $2::bigint
      union all (select 'license', license_id, customer_id, 'is bound to this domain' from license
        where domains @> array[lower($1)] order by license_id limit 20)
      union all (select 'unregistered', $1, null, 'has usage, but nobody registered it'
        from (select license_id from usage_day union all select license_id from usage_appended) u
        where license_id = $1 and not exists (select from license where license_id = $1) limit 1)
      """,
      [.text(id), Int64(id).map { .integer($0) } ?? .null], operation: "search")
    return rows.rows.indices.compactMap { i in
      Hit.Kind(rawValue: rows.text(i, 0) ?? "").map {
        Hit(
          kind: $0, id: rows.text(i, 1) ?? "", customer: rows.text(i, 2).map(Identifier.init(_:)),
          detail: rows.text(i, 3) ?? "")
      }
    }
  }
}
