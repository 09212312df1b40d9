/// Reads alerts.
package struct AlertReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// An alert. Times are in milliseconds since 1970.
  package struct Alert: Sendable, Equatable {
    package var id: Int64
    package var type: String
    package var licenseID: String?
    package var customerID: String?
    package var occurredAt: Int64
    package var createdAt: Int64
    /// The data, which is a JSON object.
    package var data: String
    /// The places of the cause in the log, as JSON. Only the vendor may see it.
    package var evidence: String?
  }

  /// Which alerts to list. Nil sets no condition.
  package struct Filter: Sendable {
    package var id: Int64?
    package var license: String?
    package var customer: String?
    package var type: String?
    /// The half-open range of times in milliseconds since 1970.
    package var from: Int64?
    package var to: Int64?

    package init() {}
  }

  /// Lists alerts, newest first.
  ///
  /// - Parameter before: a cursor. Only alerts after the one with this id are listed.
  package func list(
    _ filter: Filter, before: Int64? = nil, limit: Int
  ) throws(PostgresError) -> [Alert] {
    func number(_ value: Int64?) -> SQLValue { value.map { .integer($0) } ?? .null }
    let rows = try connection.query(
      """
      select alert_id, type, license_id, customer_id, (extract(epoch from occurred_at) * 1000)::bigint,
        (extract(epoch from created_at) * 1000)::bigint, data, evidence
      from alert
      where ($1::bigint is null or alert_id = $1) and ($2::text is null or license_id = $2)
        and ($3::text is null or customer_id = $3) and ($4::text is null or type = $4)
        and ($5::bigint is null or occurred_at >= to_timestamp($5 / 1000.0))
        and ($6::bigint is null or occurred_at < to_timestamp($6 / 1000.0))
        and ($7::bigint is null or (occurred_at, alert_id) <
          (select b.occurred_at, b.alert_id from alert b where b.alert_id = $7))
      order by occurred_at desc, alert_id desc limit $8::int
      """,
      [
        number(filter.id), .optional(filter.license), .optional(filter.customer),
        .optional(filter.type), number(filter.from), number(filter.to), number(before),
        .int(limit),
      ], operation: "read alerts")
    return rows.rows.indices.map { i in
      Alert(
        id: rows.integer(i, 0) ?? 0, type: rows.text(i, 1) ?? "", licenseID: rows.text(i, 2),
        customerID: rows.text(i, 3), occurredAt: rows.integer(i, 4) ?? 0,
        createdAt: rows.integer(i, 5) ?? 0, data: rows.text(i, 6) ?? "{}",
        evidence: rows.text(i, 7))
    }
  }
}
