package import Metering

/// Claims deliveries of alerts, and stores the results of attempts.
package struct WebhookStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The channel that `alert_raise` notifies.
  package static let channel = "webhook_delivery"

  /// One delivery, claimed for the length of a lease, with everything that an attempt needs.
  package struct Claim: Sendable {
    package var deliveryID: Int64
    package var lease: Int64
    package var endpoint: String
    package var webhookID: String
    /// The number of failed attempts since it was created or sent again.
    package var retryStep: Int
    package var url: String
    /// The endpoint's secrets, newest first, each as `SecretBox` sealed it.
    package var sealedSecrets: [[UInt8]]
    package var type: String
    /// The alert's time in RFC 3339, in UTC, with milliseconds.
    package var occurredAt: String
    /// A JSON object.
    package var data: String
    /// How long the delivery has been due.
    package var dueSecondsAgo: Double
    package var alertID: Int64
    /// Whether the endpoint is a customer's and not the vendor's.
    package var isForCustomer: Bool
    /// The number of attempts so far.
    package var attempts: Int64
    /// Whether the endpoint's breaker is open and this delivery is the one that tries it.
    package var isProbe: Bool
    /// The trace that led to the alert.
    package var trace: TraceContext?
  }

  /// Claims deliveries that are due; see `webhook_claim` in v0008_deliveries.sql. If the last lease
  /// of a delivery ended without a result, the delivery has one more failed attempt.
  ///
  /// - Parameters:
  ///   - most: for all endpoints together.
  ///   - perEndpoint: for endpoints that `rooms` does not name.
  /// - Complexity: an index probe for each endpoint with pending deliveries, and the claimed
  ///   deliveries. It does not depend on how many are pending.
  package func claim(
    most: Int, perEndpoint: Int, rooms: [(endpoint: String, room: Int)], leaseSeconds: Int
  ) throws(PostgresError) -> [Claim] {
    let rows = try connection.query(
      """
      select delivery_id, lease, endpoint_id, webhook_id, retry_step, url, secrets, type, occurred_at, data,
        due_seconds_ago, (select d.alert_id from webhook_delivery d where d.delivery_id = c.delivery_id),
        (select e.customer_id is not null from webhook_endpoint e where e.endpoint_id = c.endpoint_id),
        attempts, webhook_traceparent(delivery_id), is_probe
      from webhook_claim($1::int, $2::int, $3::text[], $4::int[], $5::int) c
      """,
      [
        .int(most), .int(perEndpoint), .texts(rooms.map(\.endpoint)),
        .integers(rooms.map { Int64($0.room) }), .int(leaseSeconds),
      ], operation: "claim deliveries")
    return rows.rows.indices.map { i in
      Claim(
        deliveryID: rows.integer(i, 0) ?? 0, lease: rows.integer(i, 1) ?? 0,
        endpoint: rows.text(i, 2) ?? "", webhookID: rows.text(i, 3) ?? "",
        retryStep: Int(rows.integer(i, 4) ?? 0), url: rows.text(i, 5) ?? "",
        sealedSecrets: (rows.text(i, 6) ?? "").split(separator: ",").map { Hexadecimal.bytes($0) },
        type: rows.text(i, 7) ?? "", occurredAt: rows.text(i, 8) ?? "",
        data: rows.text(i, 9) ?? "{}", dueSecondsAgo: rows.text(i, 10).flatMap(Double.init) ?? 0,
        alertID: rows.integer(i, 11) ?? 0, isForCustomer: rows.boolean(i, 12),
        attempts: rows.integer(i, 13) ?? 0, isProbe: rows.boolean(i, 15),
        trace: rows.text(i, 14).flatMap { TraceContext($0) })
    }
  }

  /// The result of one attempt.
  package struct Result: Sendable {
    package var deliveryID: Int64
    package var lease: Int64
    package var succeeded: Bool
    /// The time until the next attempt. It is nil if there is none.
    package var retryMilliseconds: Int64?
    /// The time when the attempt began, in milliseconds since 1970.
    package var atMilliseconds: Int64
    package var statusCode: Int?
    package var error: String?
    package var durationMilliseconds: Int64
    /// The answer, at most its first KiB.
    package var response: [UInt8]

    package init(
      deliveryID: Int64, lease: Int64, succeeded: Bool, retryMilliseconds: Int64?,
      atMilliseconds: Int64, statusCode: Int?, error: String?, durationMilliseconds: Int64,
      response: [UInt8]
    ) {
      self.deliveryID = deliveryID
      self.lease = lease
      self.succeeded = succeeded
      self.retryMilliseconds = retryMilliseconds
      self.atMilliseconds = atMilliseconds
      self.statusCode = statusCode
      self.error = error
      self.durationMilliseconds = durationMilliseconds
      self.response = response
    }
  }

  /// Stores attempts and their consequences for the deliveries, in the caller's transaction.
  package func record(_ results: [Result]) throws(PostgresError) {
    guard !results.isEmpty else { return }
    try connection.query(
      """
      select webhook_record($1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[],
        (select array_agg(to_timestamp(m / 1000.0) order by n) from unnest($5::bigint[]) with ordinality x(m, n)),
        $6::int[], (select array_agg(nullif(e, '') order by n) from unnest($7::text[]) with ordinality x(e, n)),
        $8::int[], $9::text[])
      """,
      [
        .integers(results.map(\.deliveryID)), .integers(results.map(\.lease)),
        .booleans(results.map(\.succeeded)), .optionalIntegers(results.map(\.retryMilliseconds)),
        .integers(results.map(\.atMilliseconds)),
        .optionalIntegers(results.map { $0.statusCode.map(Int64.init) }),
        .texts(results.map { $0.error ?? "" }),
        .integers(results.map { min(max($0.durationMilliseconds, 0), Int64(Int32.max)) }),
        .texts(results.map { Hexadecimal.text($0.response.prefix(1_024)) }),
      ], operation: "record attempts")
  }

  /// A claim that was never tried, and the time after which it is due again.
  package struct Release: Sendable {
    package var deliveryID: Int64
    package var lease: Int64
    package var afterMilliseconds: Int

    package init(deliveryID: Int64, lease: Int64, afterMilliseconds: Int = 0) {
      self.deliveryID = deliveryID
      self.lease = lease
      self.afterMilliseconds = afterMilliseconds
    }
  }

  /// Gives back claims that were never tried.
  package func release(_ claims: [Release]) throws(PostgresError) {
    guard !claims.isEmpty else { return }
    try connection.query(
      "select webhook_postpone($1::bigint[], $2::bigint[], $3::bigint[])",
      [
        .integers(claims.map(\.deliveryID)), .integers(claims.map(\.lease)),
        .integers(claims.map { Int64($0.afterMilliseconds) }),
      ], operation: "release deliveries")
  }

  // MARK: Endpoints' breakers

  package struct Health: Sendable {
    package var endpoint: String
    /// Results of another URL say nothing about this one.
    package var url: String
    package var consecutiveFailures: Int
    package var failingSinceMilliseconds: Int64?
    package var openUntilMilliseconds: Int64?

    package init(
      endpoint: String, url: String, consecutiveFailures: Int, failingSinceMilliseconds: Int64?,
      openUntilMilliseconds: Int64?
    ) {
      self.endpoint = endpoint
      self.url = url
      self.consecutiveFailures = consecutiveFailures
      self.failingSinceMilliseconds = failingSinceMilliseconds
      self.openUntilMilliseconds = openUntilMilliseconds
    }
  }

  /// The server's clock and the state of active endpoints in the order of their ids. The rows are
  /// locked until the transaction ends.
  package func lockHealth(
    of endpoints: [String]
  ) throws(PostgresError) -> (nowMilliseconds: Int64, health: [Health]) {
    let rows = try connection.query(
      """
      select endpoint_id, consecutive_failures, (extract(epoch from failing_since) * 1000)::bigint,
        (extract(epoch from open_until) * 1000)::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint,
        url
      from webhook_endpoint where endpoint_id = any ($1::text[]) and status = 'active'
      order by endpoint_id for no key update
      """, [.texts(endpoints)], operation: "read endpoints")
    let health = rows.rows.indices.map { i in
      Health(
        endpoint: rows.text(i, 0) ?? "", url: rows.text(i, 5) ?? "",
        consecutiveFailures: Int(rows.integer(i, 1) ?? 0),
        failingSinceMilliseconds: rows.integer(i, 2), openUntilMilliseconds: rows.integer(i, 3))
    }
    return (rows.rows.isEmpty ? 0 : rows.integer(0, 4) ?? 0, health)
  }

  package func setHealth(_ health: Health) throws(PostgresError) {
    try connection.query(
      """
      update webhook_endpoint set consecutive_failures = $2::int, failing_since = to_timestamp($3::bigint / 1000.0),
        open_until = to_timestamp($4::bigint / 1000.0)
      where endpoint_id = $1
      """,
      [
        .text(health.endpoint), .int(health.consecutiveFailures),
        health.failingSinceMilliseconds.map { .integer($0) } ?? .null,
        health.openUntilMilliseconds.map { .integer($0) } ?? .null,
      ], operation: "update endpoint")
  }

  /// Closes the breakers of endpoints that answered at the URL that they still have. Those without
  /// failures are not written.
  package func markHealthy(
    _ endpoints: [(endpoint: String, url: String)]
  ) throws(PostgresError) {
    guard !endpoints.isEmpty else { return }
    try connection.query(
      """
      update webhook_endpoint e set consecutive_failures = 0, failing_since = null, open_until = null
      from (select endpoint_id from webhook_endpoint
        where (endpoint_id, url) in (select * from unnest($1::text[], $2::text[])) and consecutive_failures > 0
        order by endpoint_id for no key update) f
      where e.endpoint_id = f.endpoint_id
      """, [.texts(endpoints.map(\.endpoint)), .texts(endpoints.map(\.url))],
      operation: "update endpoints")
  }

  // MARK: Housekeeping

  /// Ends at most `most` deliveries to disabled endpoints.
  ///
  /// - Returns: the number of deliveries.
  package func discard(most: Int) throws(PostgresError) -> Int {
    let rows = try connection.query(
      "select webhook_discard($1::int)", [.int(most)], operation: "discard deliveries")
    return Int(rows.integer(0, 0) ?? 0)
  }

  /// Raises the expiry notices that are due. While another dispatcher does this, the result is 0.
  ///
  /// - Returns: the number of notices.
  package func raiseExpiryNotices(most: Int) throws(PostgresError) -> Int {
    let rows = try connection.query(
      "select expiry_notices_raise($1::int)", [.int(most)], operation: "raise expiry notices")
    return Int(rows.integer(0, 0) ?? 0)
  }

  /// Deletes secrets that expired more than a day ago.
  package func retainSecrets() throws(PostgresError) {
    try connection.execute("delete from webhook_secret where expires_at < now() - interval '1 day'")
  }

  /// Looks at the next deliveries after the id `after`, and deletes those that ended more than
  /// `days` ago, with their attempts. Alerts stay.
  ///
  /// Ids grow with time, so the oldest deliveries are at the beginning of the key. Among them are
  /// old ones that were sent again and stay, so a walk goes on behind those.
  ///
  /// - Returns: the last id that was looked at, or nil if no later delivery is old enough.
  package func retain(
    days: Int, after: Int64, most: Int
  ) throws(PostgresError) -> Int64? {
    try connection.query(
      """
      with page as (
        select delivery_id, status, finished_at, created_at from webhook_delivery
        where delivery_id > $2::bigint order by delivery_id limit $3::int
      ), gone as (
        delete from webhook_delivery where delivery_id in (
          select delivery_id from page
          where status <> 'pending' and finished_at < now() - make_interval(days => $1::int))
      )
      select max(delivery_id) from page
      having count(*) = $3::int and min(created_at) < now() - make_interval(days => $1::int)
      """, [.int(days), .integer(after), .int(most)], operation: "retain deliveries"
    ).rows.first?[0].flatMap { Int64($0) }
  }

  package struct Backlog: Sendable {
    /// The deliveries that are pending, counted up to a million.
    package var pending: Int64
    /// How long the oldest delivery has been due. Endpoints with an open breaker are left out.
    package var oldestDueSeconds: Double
    package var closed: Int64
    package var failing: Int64
    package var open: Int64
    package var disabled: Int64
  }

  package func backlog() throws(PostgresError) -> Backlog {
    let rows = try connection.query(
      """
      select (select count(*) from (select from webhook_delivery where status = 'pending' limit 1000000) p),
        coalesce((select extract(epoch from clock_timestamp() - min(d.first))::float8 from (
          select (select next_attempt_at from webhook_delivery w where w.endpoint_id = e.endpoint_id and status = 'pending'
            order by next_attempt_at limit 1) as first
          from webhook_endpoint e where e.status = 'active' and e.open_until is null) d
          where d.first <= clock_timestamp()), 0),
        count(*) filter (where status = 'active' and consecutive_failures = 0),
        count(*) filter (where status = 'active' and consecutive_failures > 0 and open_until is null),
        count(*) filter (where status = 'active' and open_until is not null),
        count(*) filter (where status = 'disabled')
      from webhook_endpoint
      """, operation: "read the backlog")
    return Backlog(
      pending: rows.integer(0, 0) ?? 0,
      oldestDueSeconds: rows.text(0, 1).flatMap(Double.init) ?? 0, closed: rows.integer(0, 2) ?? 0,
      failing: rows.integer(0, 3) ?? 0, open: rows.integer(0, 4) ?? 0,
      disabled: rows.integer(0, 5) ?? 0)
  }
}
