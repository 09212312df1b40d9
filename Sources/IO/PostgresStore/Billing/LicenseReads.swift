package import Metering

/// Reads licenses to show and to change. `LicenseStore` has the writes.
package struct LicenseReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A license. Times are in milliseconds since 1970. Lists and objects are JSON.
  package struct Record: Sendable, Equatable {
    package var licenseID: Identifier
    package var customerID: Identifier
    package var plan: String
    package var features: String
    package var domains: String
    /// The limits as in a line of an import. `apiCalls` is the meter `api_calls`, and `seats` is
    /// included.
    package var limits: String
    package var status: String
    package var isTrial: Bool
    package var overagePolicy: String
    package var alertThresholds: String
    package var billingAnchorDay: Int64
    /// The billing anchor days, each with the date from which it applies. Null stands for the
    /// beginning.
    package var billingAnchors: String
    package var issuedAt: Int64
    package var expiresAt: Int64
    package var createdAt: Int64
    package var updatedAt: Int64
  }

  /// Which licenses to list. Nil sets no condition.
  package struct Filter: Sendable {
    package var customer: String?
    package var status: String?
    package var plan: String?
    /// Only licenses that are bound to exactly this domain, as it is stored.
    package var domain: String?
    /// A text to search for. It may be the beginning of a license id, a customer's id, a part of a
    /// customer's name, or a bound domain.
    package var search: String?

    package init() {}
  }

  /// Lists licenses in the order of their ids.
  ///
  /// - Parameter after: only ids after this one.
  package func list(
    _ filter: Filter, after: String? = nil, limit: Int
  ) throws(PostgresError) -> [Record] {
    try records(
      """
      where ($1::text is null or customer_id = $1) and ($2::text is null or status = $2)
        and ($3::text is null or plan = $3) and ($4::text is null or domains @> array[$4::text])
        and ($5::text is null or license_id ^@ $5 or customer_id = $5 or domains @> array[lower($5)]
          or customer_id in (select c.customer_id from customer c where strpos(lower(c.name), lower($5)) > 0))
        and ($6::text is null or license_id > $6)
      order by license_id limit $7::int
      """,
      [
        .optional(filter.customer), .optional(filter.status), .optional(filter.plan),
        .optional(filter.domain), .optional(filter.search), .optional(after), .int(limit),
      ])
  }

  /// - Parameter isLocked: whether to lock the license until the transaction ends.
  package func license(_ id: String, isLocked: Bool = false) throws(PostgresError) -> Record? {
    try records(
      "where license_id = $1" + (isLocked ? " for no key update of l" : ""), [.text(id)]
    ).first
  }

  private func records(
    _ condition: String, _ parameters: [SQLValue]
  ) throws(PostgresError) -> [Record] {
    func milliseconds(_ column: String) -> String {
      "(extract(epoch from \(column)) * 1000)::bigint"
    }
    let rows = try connection.query(
      """
      select license_id, customer_id, plan, to_json(features), to_json(domains),
        (select coalesce(jsonb_object_agg(case meter when 'api_calls' then 'apiCalls' else meter end, quantity), '{}')
          from license_limit m where m.license_id = l.license_id) || jsonb_strip_nulls(jsonb_build_object('seats', seats)),
        status, trial, overage_policy, to_json(alert_thresholds), billing_anchor_day,
        (select coalesce(json_agg(json_build_object('effective_from',
            case when effective_from = '-infinity' then null else effective_from end, 'anchor_day', anchor_day)
            order by effective_from), '[]')
          from license_billing_anchor b where b.license_id = l.license_id),
        \(milliseconds("issued_at")), \(milliseconds("expires_at")), \(milliseconds("created_at")),
        \(milliseconds("updated_at"))
      from license l \(condition)
      """, parameters, operation: "read licenses")
    return rows.rows.indices.map { i in
      Record(
        licenseID: Identifier(rows.text(i, 0) ?? ""), customerID: Identifier(rows.text(i, 1) ?? ""),
        plan: rows.text(i, 2) ?? "", features: rows.text(i, 3) ?? "[]",
        domains: rows.text(i, 4) ?? "[]", limits: rows.text(i, 5) ?? "{}",
        status: rows.text(i, 6) ?? "", isTrial: rows.boolean(i, 7),
        overagePolicy: rows.text(i, 8) ?? "", alertThresholds: rows.text(i, 9) ?? "[]",
        billingAnchorDay: rows.integer(i, 10) ?? 1, billingAnchors: rows.text(i, 11) ?? "[]",
        issuedAt: rows.integer(i, 12) ?? 0, expiresAt: rows.integer(i, 13) ?? 0,
        createdAt: rows.integer(i, 14) ?? 0, updatedAt: rows.integer(i, 15) ?? 0)
    }
  }
}
