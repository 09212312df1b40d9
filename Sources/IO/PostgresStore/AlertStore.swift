/// What was raised. Raising itself is SQL, `alert_raise` in v0002_alerts.sql: it belongs to the transaction that found the cause.
package struct AlertStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// Raises an alert in the caller's transaction, or by itself.
  ///
  /// - Parameters:
  ///   - data, evidence: JSON objects; the license's id is added to `data`.
  ///   - dedupeKey: names the cause; the same key again does nothing.
  /// - Returns: the alert's id, nil where the key exists.
  package func raise(
    type: String, license: String, occurredAtMilliseconds: Int64, data: String, dedupeKey: String,
    evidence: String? = nil
  ) throws(PostgresError) -> Int64? {
    try connection.query(
      "select alert_raise($1, $2, to_timestamp($3::bigint / 1000.0), $4::jsonb, $5, $6::jsonb)",
      [
        .text(type), .text(license), .integer(occurredAtMilliseconds), .text(data),
        .text(dedupeKey), .optional(evidence),
      ], operation: "raise alert"
    ).integer(0, 0)
  }

  package struct Alert: Sendable {
    package var id: Int64
    package var type: String
    package var license: String?
    package var customer: String?
    /// RFC 3339, UTC.
    package var occurredAt: String
    /// A JSON object.
    package var data: String
  }

  /// The newest first.
  /// - Parameters:
  ///   - license, type: nil: all.
  ///   - before: only those with a smaller id, for the next page.
  package func list(
    license: String? = nil, type: String? = nil, before: Int64? = nil, limit: Int
  ) throws(PostgresError) -> [Alert] {
    let rows = try connection.query(
      """
      select alert_id, type, license_id, customer_id,
        to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), data
      from alert
      where ($1::text is null or license_id = $1) and ($2::text is null or type = $2)
        and ($3::bigint is null or alert_id < $3)
      order by alert_id desc limit $4::bigint
      """,
      [.optional(license), .optional(type), before.map { .integer($0) } ?? .null, .int(limit)],
      operation: "read alerts")
    return rows.rows.indices.map { i in
      Alert(
        id: rows.integer(i, 0) ?? 0, type: rows.text(i, 1) ?? "", license: rows.text(i, 2),
        customer: rows.text(i, 3), occurredAt: rows.text(i, 4) ?? "", data: rows.text(i, 5) ?? "{}")
    }
  }
}
