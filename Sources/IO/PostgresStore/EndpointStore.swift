import Metering

/// Stores webhook endpoints and their secrets. The caller checks URLs and seals secrets, with
/// `WebhookDelivery`.
package struct EndpointStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// How long a replaced secret is still used for signatures.
  package static let rotationHours = 24
  /// The most secrets of an endpoint. Each signature makes every webhook larger.
  package static let maximumSecrets = 4
  /// The most endpoints of a customer, whatever their status. Each alert of the customer writes one
  /// delivery for each of them, in the transaction that raises it. Endpoints that hang hold slots
  /// of the dispatcher that others need.
  package static let maximumPerCustomer = 50

  package struct Endpoint: Sendable {
    package var id: String
    package var customer: String?
    package var url: String
    package var events: [String]
    package var status: String
    package var disabledReason: String?
    package var signing: String
    package var consecutiveFailures: Int64
    package var failingSince: String?
    package var openUntil: String?
    package var createdAt: String
  }

  /// A customer that has `maximumPerCustomer` endpoints got no other one.
  package struct TooMany: Error {}

  /// Adds an endpoint. If `events` is empty, it receives all types.
  ///
  /// - Throws: `TooMany`, or `PostgresError` with `SQLState.foreignKeyViolation` if there is no
  ///   such customer.
  package func add(
    id: String, customer: String?, url: String, events: [String], signing: String,
    sealedSecret: [UInt8]
  ) throws {
    try connection.transaction {
      if let customer {
        // It is held until the endpoint is committed, so that requests at the same time count each
        // other's endpoints.
        try connection.lock(.endpoints, customer, operation: "add endpoint")
        let found = try connection.query(
          "select count(*) from webhook_endpoint where customer_id = $1", [.text(customer)],
          operation: "add endpoint")
        guard (found.integer(0, 0) ?? 0) < Self.maximumPerCustomer else { throw TooMany() }
      }
      try connection.query(
        "insert into webhook_endpoint (endpoint_id, customer_id, url, events, signing) values ($1, $2, $3, $4::text[], $5)",
        [.text(id), .optional(customer), .text(url), .texts(events), .text(signing)],
        operation: "add endpoint")
      try connection.query(
        "insert into webhook_secret (endpoint_id, ciphertext) values ($1, $2)",
        [.text(id), .bytes(sealedSecret)], operation: "add endpoint")
    }
  }

  /// Endpoints, in the order in which they were created.
  ///
  /// - Parameters:
  ///   - id: nil selects all.
  ///   - customer: nil selects those of all customers.
  package func list(
    id: String? = nil, customer: String? = nil, limit: Int
  ) throws(PostgresError) -> [Endpoint] {
    try endpoints(
      """
      where ($1::text is null or endpoint_id = $1) and ($2::text is null or customer_id = $2)
      order by created_at, endpoint_id limit $3::bigint
      """, [.optional(id), .optional(customer), .int(limit)])
  }

  /// Endpoints, in the order of their ids.
  func list(ids: [String]) throws(PostgresError) -> [Endpoint] {
    try endpoints("where endpoint_id = any ($1::text[]) order by endpoint_id", [.texts(ids)])
  }

  private func endpoints(
    _ condition: String, _ parameters: [SQLValue]
  ) throws(PostgresError) -> [Endpoint] {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    }
    let rows = try connection.query(
      """
      select endpoint_id, customer_id, url, array_to_string(events, ','), status, disabled_reason, signing,
        consecutive_failures, \(time("failing_since")), \(time("open_until")), \(time("created_at"))
      from webhook_endpoint \(condition)
      """, parameters, operation: "read endpoints")
    return rows.rows.indices.map { i in
      Endpoint(
        id: rows.text(i, 0) ?? "", customer: rows.text(i, 1), url: rows.text(i, 2) ?? "",
        events: (rows.text(i, 3) ?? "").split(separator: ",").map(String.init),
        status: rows.text(i, 4) ?? "", disabledReason: rows.text(i, 5),
        signing: rows.text(i, 6) ?? "", consecutiveFailures: rows.integer(i, 7) ?? 0,
        failingSince: rows.text(i, 8), openUntil: rows.text(i, 9), createdAt: rows.text(i, 10) ?? ""
      )
    }
  }

  /// Changes the URL and the types of alerts, each if it is not nil. The secret, the customer and
  /// pending deliveries stay. A new URL starts with a closed breaker.
  ///
  /// - Returns: false if there is no endpoint with this id.
  package func update(
    _ id: String, url: String?, events: [String]?
  ) throws(PostgresError) -> Bool {
    try connection.query(
      """
      update webhook_endpoint set url = coalesce($2, url),
        events = case when $3::boolean then $4::text[] else events end,
        consecutive_failures = case when $2 is null then consecutive_failures else 0 end,
        failing_since = case when $2 is null then failing_since end,
        open_until = case when $2 is null then open_until end, updated_at = now()
      where endpoint_id = $1
      """, [.text(id), .optional(url), .boolean(events != nil), .texts(events ?? [])],
      operation: "update endpoint"
    ).affected > 0
  }

  // MARK: Secrets

  package struct Secret: Sendable {
    package var id: Int64
    package var endpoint: String
    package var sealed: [UInt8]
  }

  /// The secrets that are still used for signatures, in the order of their ids, after the id
  /// `after`.
  package func secrets(after: Int64, limit: Int) throws(PostgresError) -> [Secret] {
    let rows = try connection.query(
      """
      select secret_id, endpoint_id, encode(ciphertext, 'hex') from webhook_secret
      where secret_id > $1::bigint and coalesce(expires_at > now(), true) order by secret_id limit $2::int
      """, [.integer(after), .int(limit)], operation: "read secrets")
    return rows.rows.indices.map { i in
      Secret(
        id: rows.integer(i, 0) ?? 0, endpoint: rows.text(i, 1) ?? "",
        sealed: Hexadecimal.bytes(rows.text(i, 2) ?? ""))
    }
  }

  /// Replaces the seal of a secret, unless the secret was replaced meanwhile. This is one row, so
  /// it happens entirely or not at all.
  package func reseal(_ secret: Secret, with sealed: [UInt8]) throws(PostgresError) -> Bool {
    try connection.query(
      "update webhook_secret set ciphertext = $3 where secret_id = $1::bigint and ciphertext = $2",
      [.integer(secret.id), .bytes(secret.sealed), .bytes(sealed)], operation: "reseal secret"
    ).affected > 0
  }

  /// Enables an endpoint. Only `recover` sends what it missed while it was disabled.
  ///
  /// - Returns: false if there is no endpoint with this id.
  package func enable(_ id: String) throws(PostgresError) -> Bool {
    try connection.query(
      """
      update webhook_endpoint set status = 'active', disabled_reason = null, disabled_at = null,
        consecutive_failures = 0, failing_since = null, open_until = null, updated_at = now()
      where endpoint_id = $1
      """, [.text(id)], operation: "enable endpoint"
    ).affected > 0
  }

  /// Disables an endpoint. By default no alert is raised, because a person does it.
  ///
  /// - Returns: true also if it was disabled already.
  package func disable(
    _ id: String, reason: String, withAlert: Bool = false
  ) throws(PostgresError) -> Bool {
    try connection.query(
      "select webhook_endpoint_disable($1, $2, $3::boolean) from webhook_endpoint where endpoint_id = $1",
      [.text(id), .text(reason), .boolean(withAlert)], operation: "disable endpoint"
    ).rows.count > 0
  }

  /// Deletes an endpoint with its deliveries in several steps, so that a million deliveries do not
  /// hold up others.
  ///
  /// - Returns: false if there is no endpoint with this id.
  package func delete(_ id: String) throws(PostgresError) -> Bool {
    guard try disable(id, reason: "deleted") else { return false }
    while try connection.query(
      "delete from webhook_delivery where delivery_id in (select delivery_id from webhook_delivery where endpoint_id = $1 limit 10000)",
      [.text(id)], operation: "delete endpoint"
    ).affected > 0 {}
    return try connection.query(
      "delete from webhook_endpoint where endpoint_id = $1", [.text(id)],
      operation: "delete endpoint"
    ).affected > 0
  }

  /// Adds a secret that is used for signatures from now on. The earlier ones are used for another
  /// `rotationHours`.
  ///
  /// - Returns: false if there is no such endpoint.
  package func rotate(_ id: String, sealedSecret: [UInt8]) throws -> Bool {
    try connection.transaction {
      let found = try connection.query(
        "select from webhook_endpoint where endpoint_id = $1 for no key update", [.text(id)],
        operation: "rotate secret")
      guard found.rows.count > 0 else { return false }
      try connection.query(
        """
        update webhook_secret set expires_at = now() + make_interval(hours => $2::int)
        where endpoint_id = $1 and expires_at is null
        """, [.text(id), .int(Self.rotationHours)], operation: "rotate secret")
      try connection.query(
        "insert into webhook_secret (endpoint_id, ciphertext) values ($1, $2)",
        [.text(id), .bytes(sealedSecret)], operation: "rotate secret")
      try connection.query(
        """
        delete from webhook_secret where endpoint_id = $1 and secret_id not in (
          select secret_id from webhook_secret where endpoint_id = $1 order by secret_id desc limit $2::int)
        """, [.text(id), .int(Self.maximumSecrets)], operation: "rotate secret")
      return true
    }
  }

  /// Creates an alert of the type `webhook.test` with one delivery, whatever types the endpoint
  /// receives.
  ///
  /// - Returns: the delivery's id; nil if there is no such active endpoint.
  package func test(_ id: String) throws(PostgresError) -> Int64? {
    try connection.query(
      """
      with made as (
        insert into alert (type, customer_id, occurred_at, data, dedupe_key)
        select 'webhook.test', customer_id, now(), jsonb_build_object('endpoint_id', endpoint_id),
          'webhook.test/' || gen_random_uuid()
        from webhook_endpoint where endpoint_id = $1 and status = 'active'
        returning alert_id, dedupe_key
      ), delivery as (
        insert into webhook_delivery (alert_id, endpoint_id, webhook_id)
        select alert_id, $1, webhook_id_of(dedupe_key, $1) from made returning delivery_id
      ) select delivery_id, pg_notify('webhook_delivery', '') from delivery
      """, [.text(id)], operation: "test endpoint"
    ).rows.first?[0].flatMap { Int64($0) }
  }
}
