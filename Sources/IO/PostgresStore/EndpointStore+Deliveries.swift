package import Metering

/// The deliveries to webhook endpoints: people list them and send them again.
extension EndpointStore {
  package struct Delivery: Sendable {
    package var id: Int64
    package var webhookID: String
    package var endpoint: String
    package var type: String
    package var license: String?
    package var status: String
    package var attempts: Int64
    package var nextAttemptAt: String?
    package var createdAt: String
    package var lastStatusCode: Int64?
    package var lastError: String?
  }

  /// Deliveries, newest first.
  package func deliveries(
    id: Int64? = nil, endpoint: String? = nil, status: String? = nil, limit: Int
  ) throws(PostgresError) -> [Delivery] {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    }
    let rows = try connection.query(
      """
      select d.delivery_id, d.webhook_id, d.endpoint_id, a.type, a.license_id, d.status, d.attempts,
        \(time("d.next_attempt_at")), \(time("d.created_at")), t.status_code, t.error
      from webhook_delivery d join alert a using (alert_id)
      left join webhook_attempt t on t.delivery_id = d.delivery_id and t.attempt = d.attempts
      where ($1::bigint is null or d.delivery_id = $1) and ($2::text is null or d.endpoint_id = $2)
        and ($3::text is null or d.status = $3)
      order by d.delivery_id desc limit $4::bigint
      """,
      [id.map { .integer($0) } ?? .null, .optional(endpoint), .optional(status), .int(limit)],
      operation: "read deliveries")
    return rows.rows.indices.map { i in
      Delivery(
        id: rows.integer(i, 0) ?? 0, webhookID: rows.text(i, 1) ?? "",
        endpoint: rows.text(i, 2) ?? "", type: rows.text(i, 3) ?? "", license: rows.text(i, 4),
        status: rows.text(i, 5) ?? "", attempts: rows.integer(i, 6) ?? 0,
        nextAttemptAt: rows.text(i, 7), createdAt: rows.text(i, 8) ?? "",
        lastStatusCode: rows.integer(i, 9), lastError: rows.text(i, 10))
    }
  }

  package struct Attempt: Sendable {
    package var number: Int64
    package var at: String
    package var statusCode: Int64?
    package var error: String?
    package var durationMilliseconds: Int64
    /// The first KiB of the answer.
    package var response: [UInt8]
  }

  /// A delivery with its content and all its attempts.
  package struct DeliveryDetail: Sendable {
    package var delivery: Delivery
    package var url: String
    package var customer: String?
    package var occurredAt: String
    package var finishedAt: String?
    /// A JSON object.
    package var data: String
    package var attempts: [Attempt]
    /// The trace that led to the alert.
    package var trace: TraceContext?
  }

  package func delivery(_ id: Int64) throws(PostgresError) -> DeliveryDetail? {
    guard let delivery = try deliveries(id: id, limit: 1).first else { return nil }
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    }
    let about = try connection.query(
      """
      select e.url, a.customer_id, \(time("a.occurred_at")), \(time("d.finished_at")), a.data,
        jsonb_path_query_first(a.evidence, '$[*].traceparent') #>> '{}'
      from webhook_delivery d join alert a using (alert_id) join webhook_endpoint e using (endpoint_id)
      where d.delivery_id = $1::bigint
      """, [.integer(id)], operation: "read a delivery")
    guard !about.rows.isEmpty else { return nil }
    let rows = try connection.query(
      """
      select attempt, \(time("at")), status_code, error, duration_ms, encode(response, 'hex')
      from webhook_attempt where delivery_id = $1::bigint order by attempt
      """, [.integer(id)], operation: "read attempts")
    return DeliveryDetail(
      delivery: delivery, url: about.text(0, 0) ?? "", customer: about.text(0, 1),
      occurredAt: about.text(0, 2) ?? "", finishedAt: about.text(0, 3),
      data: about.text(0, 4) ?? "{}",
      attempts: rows.rows.indices.map { i in
        Attempt(
          number: rows.integer(i, 0) ?? 0, at: rows.text(i, 1) ?? "",
          statusCode: rows.integer(i, 2), error: rows.text(i, 3),
          durationMilliseconds: rows.integer(i, 4) ?? 0,
          response: Hexadecimal.bytes(rows.text(i, 5) ?? ""))
      }, trace: about.text(0, 5).flatMap { TraceContext($0) })
  }

  /// Sends a delivery again now, whatever happened to it, under the same `webhook-id`. The retry
  /// schedule starts over.
  ///
  /// - Returns: false if there is no such delivery, or if its endpoint is disabled.
  package func redeliver(_ delivery: Int64) throws -> Bool {
    try connection.transaction {
      let done =
        try connection.query(
          Self.again + " and d.delivery_id = $1", [.integer(delivery)], operation: "redeliver"
        ).affected > 0
      if done { try connection.execute("notify \(WebhookStore.channel)") }
      return done
    }
  }

  /// Sends an endpoint's failed and discarded deliveries again, if their alerts are in the
  /// half-open span. It works in steps, so that many deliveries do not hold up others.
  ///
  /// - Parameter most: how many deliveries are sent again at most, the oldest first.
  /// - Returns: the number of deliveries.
  package func recover(
    _ endpoint: String, sinceMilliseconds: Int64, untilMilliseconds: Int64, most: Int = .max
  ) throws -> Int {
    var total = 0
    while total < most {
      let count = try connection.transaction {
        let count = try connection.query(
          Self.again + """
             and d.delivery_id in (select w.delivery_id from webhook_delivery w
              where w.endpoint_id = $1 and w.status in ('failed', 'discarded')
                and w.created_at >= to_timestamp($2::bigint / 1000.0) and w.created_at < to_timestamp($3::bigint / 1000.0)
              order by w.created_at limit $4::int)
            """,
          [
            .text(endpoint), .integer(sinceMilliseconds), .integer(untilMilliseconds),
            .int(min(5_000, most - total)),
          ],
          operation: "recover deliveries"
        ).affected
        if count > 0 { try connection.execute("notify \(WebhookStore.channel)") }
        return count
      }
      total += count
      if count == 0 { break }
    }
    return total
  }

  /// The number of tests among an endpoint's newest deliveries that were made within an hour and
  /// are not finished.
  package func pendingTests(_ endpoint: String) throws(PostgresError) -> Int {
    let found = try connection.query(
      """
      select count(*) from (
        select alert_id, status, created_at from webhook_delivery where endpoint_id = $1
        order by delivery_id desc limit 1000) d
      join alert a using (alert_id)
      where d.status = 'pending' and a.type = 'webhook.test' and d.created_at > now() - interval '1 hour'
      """, [.text(endpoint)], operation: "count tests")
    return Int(found.integer(0, 0) ?? 0)
  }

  private static let again = """
    update webhook_delivery d set status = 'pending', next_attempt_at = clock_timestamp(), retry_step = 0, lease = null,
      finished_at = null
    from webhook_endpoint e where e.endpoint_id = d.endpoint_id and e.status = 'active'
    """
}
