/// Reads deliveries of alerts and webhook endpoints. `EndpointStore` has the writes.
package struct DeliveryReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A delivery. Times are in milliseconds since 1970.
  package struct Delivery: Sendable, Equatable {
    package var id: Int64
    package var webhookID: String
    package var endpointID: String
    package var alertID: Int64
    package var type: String
    package var licenseID: String?
    /// The customer that the alert is about.
    package var customerID: String?
    package var status: String
    package var attempts: Int64
    package var nextAttemptAt: Int64?
    package var createdAt: Int64
    package var finishedAt: Int64?
    package var lastStatusCode: Int64?
    package var lastError: String?
    /// The customer that the endpoint belongs to. Nil means the vendor.
    package var endpointCustomerID: String?
  }

  /// Which deliveries to list. Nil sets no condition.
  package struct Filter: Sendable {
    package var id: Int64?
    package var endpoint: String?
    package var alert: Int64?
    package var license: String?
    package var status: String?
    package var webhookID: String?
    /// Only deliveries to endpoints of this customer.
    package var endpointCustomer: String?

    package init() {}
  }

  /// Lists deliveries, newest first.
  ///
  /// - Parameter before: only deliveries with a smaller id.
  package func list(
    _ filter: Filter, before: Int64? = nil, limit: Int
  ) throws(PostgresError) -> [Delivery] {
    func number(_ value: Int64?) -> SQLValue { value.map { .integer($0) } ?? .null }
    func time(_ column: String) -> String { "(extract(epoch from \(column)) * 1000)::bigint" }
    let rows = try connection.query(
      """
      select d.delivery_id, d.webhook_id, d.endpoint_id, d.alert_id, a.type, a.license_id, a.customer_id, d.status,
        d.attempts, \(time("d.next_attempt_at")), \(time("d.created_at")), \(time("d.finished_at")), t.status_code, t.error,
        e.customer_id
      from webhook_delivery d join webhook_endpoint e using (endpoint_id) join alert a using (alert_id)
      left join webhook_attempt t on t.delivery_id = d.delivery_id and t.attempt = d.attempts
      where ($1::bigint is null or d.delivery_id = $1) and ($2::text is null or d.endpoint_id = $2)
        and ($3::bigint is null or d.alert_id = $3) and ($4::text is null or a.license_id = $4)
        and ($5::text is null or d.status = $5) and ($6::text is null or d.webhook_id = $6)
        and ($7::text is null or e.customer_id = $7) and ($8::bigint is null or d.delivery_id < $8)
      order by d.delivery_id desc limit $9::int
      """,
      [
        number(filter.id), .optional(filter.endpoint), number(filter.alert),
        .optional(filter.license), .optional(filter.status), .optional(filter.webhookID),
        .optional(filter.endpointCustomer), number(before), .int(limit),
      ], operation: "read deliveries")
    return rows.rows.indices.map { i in
      Delivery(
        id: rows.integer(i, 0) ?? 0, webhookID: rows.text(i, 1) ?? "",
        endpointID: rows.text(i, 2) ?? "", alertID: rows.integer(i, 3) ?? 0,
        type: rows.text(i, 4) ?? "", licenseID: rows.text(i, 5), customerID: rows.text(i, 6),
        status: rows.text(i, 7) ?? "", attempts: rows.integer(i, 8) ?? 0,
        nextAttemptAt: rows.integer(i, 9), createdAt: rows.integer(i, 10) ?? 0,
        finishedAt: rows.integer(i, 11), lastStatusCode: rows.integer(i, 12),
        lastError: rows.text(i, 13), endpointCustomerID: rows.text(i, 14))
    }
  }

  /// The `data` of a delivery's webhook, which is the JSON object that `webhook_claim` gives to the
  /// dispatcher.
  package func data(_ id: Int64) throws(PostgresError) -> String? {
    try connection.query(
      """
      select case when e.customer_id is null and a.customer_id is not null
        then jsonb_build_object('customer_id', a.customer_id) || a.data else a.data end
      from webhook_delivery d join webhook_endpoint e using (endpoint_id) join alert a using (alert_id)
      where d.delivery_id = $1::bigint
      """, [.integer(id)], operation: "read a delivery"
    ).rows.first?[0]
  }

  /// Lists endpoints in the order of their ids.
  ///
  /// - Parameter after: only ids after this one.
  package func endpoints(
    customer: String?, status: String?, after: String?, limit: Int
  ) throws(PostgresError) -> [EndpointStore.Endpoint] {
    let ids = try connection.query(
      """
      select endpoint_id from webhook_endpoint
      where ($1::text is null or customer_id = $1) and ($2::text is null or status = $2)
        and ($3::text is null or endpoint_id > $3)
      order by endpoint_id limit $4::int
      """, [.optional(customer), .optional(status), .optional(after), .int(limit)],
      operation: "read endpoints"
    ).rows.compactMap { $0[0] }
    return try EndpointStore(connection).list(ids: ids)
  }
}
