package import Metering

/// Reads what the validation service needs, many rows in each statement.
package struct AccessStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A row of `license` with its limits. Times are in milliseconds since 1970.
  package struct LicenseRow: Sendable, Equatable {
    package let licenseID: Identifier
    package let customerID: Identifier
    package let plan: String
    package let features: [String]
    package let domains: [String]
    package let seats: Int64?
    package let isTrial: Bool
    package let status: String
    package let overagePolicy: String
    package let issuedAt: Int64
    package let expiresAt: Int64
    package let limits: [(meter: Identifier, quantity: Int64)]

    package static func == (a: LicenseRow, b: LicenseRow) -> Bool {
      a.licenseID == b.licenseID && a.customerID == b.customerID && a.texts == b.texts
        && a.seats == b.seats && a.isTrial == b.isTrial && a.status == b.status
        && a.overagePolicy == b.overagePolicy
        && a.issuedAt == b.issuedAt && a.expiresAt == b.expiresAt
        && a.limits.elementsEqual(b.limits) { $0 == $1 }
    }

    private var texts: [[Identifier]] {
      [[Identifier(plan)], features.map(Identifier.init(_:)), domains.map(Identifier.init(_:))]
    }
  }

  /// The licenses that exist among `ids`.
  package func licenses(_ ids: [Identifier]) throws(PostgresError) -> [LicenseRow] {
    // Lists come as separate rows, because PostgreSQL's array syntax would have to be parsed.
    let rows = try connection.query(
      """
      with wanted as (select unnest($1::text[]) as license_id)
      select 'license', l.license_id, customer_id, plan, seats, trial, status, overage_policy,
        \(Self.milliseconds("issued_at")), \(Self.milliseconds("expires_at"))
      from wanted join license l using (license_id)
      union all
      select 'feature', license_id, f, null, null, null, null, null, n, null
      from wanted join license l using (license_id), unnest(l.features) with ordinality as u(f, n)
      union all
      select 'domain', license_id, d, null, null, null, null, null, n, null
      from wanted join license l using (license_id), unnest(l.domains) with ordinality as u(d, n)
      union all
      select 'limit', license_id, meter, null, null, null, null, null, quantity, null
      from wanted join license_limit using (license_id)
      """, [.identifiers(ids)], operation: "read licenses")
    var lists: [Identifier: [String: [(text: String, number: Int64)]]] = [:]
    var bases: [[String?]] = []
    for row in rows.rows {
      guard let kind = row[0], let id = row[1].map(Identifier.init(_:)), let text = row[2] else {
        continue
      }
      if kind == "license" {
        bases.append(row)
      } else {
        lists[id, default: [:]][kind, default: []].append((text, Int64(row[8] ?? "") ?? 0))
      }
    }
    return bases.map { row in
      let id = Identifier(row[1]!)
      let own = lists[id] ?? [:]
      func texts(_ kind: String) -> [String] {
        (own[kind] ?? []).sorted { $0.number < $1.number }.map(\.text)
      }
      return LicenseRow(
        licenseID: id, customerID: Identifier(row[2]!), plan: row[3] ?? "",
        features: texts("feature"), domains: texts("domain"), seats: row[4].flatMap(Int64.init),
        isTrial: row[5] == "t",
        status: row[6] ?? "", overagePolicy: row[7] ?? "", issuedAt: Int64(row[8] ?? "") ?? 0,
        expiresAt: Int64(row[9] ?? "") ?? 0,
        limits: (own["limit"] ?? []).map { (Identifier($0.text), $0.number) }
          .sorted { $0.0 < $1.0 })
    }
  }

  /// A period in which a license has used up a limit. A limit of 0 has no end.
  package struct LimitReached: Sendable, Equatable {
    package let licenseID: Identifier
    package let meter: Identifier
    /// Milliseconds since 1970.
    package let periodStart: Int64
    package let periodEnd: Int64
  }

  /// The limits that are used up in periods that are not over yet.
  ///
  /// A period has a state only once something is used in it. A limit of 0 is used up before that,
  /// unless an adjustment makes room.
  package func limitsReached() throws(PostgresError) -> [LimitReached] {
    try connection.query(
      """
      select license_id, meter, \(Self.milliseconds("period_start::timestamp at time zone 'UTC'")),
        \(Self.milliseconds("period_end::timestamp at time zone 'UTC'"))
      from limit_state
      where is_over and limit_quantity > 0 and period_end > (now() at time zone 'UTC')::date
      union all
      select license_id, meter, 0, \(Int64.max) from license_limit l
      where quantity = 0 and not exists (
        select from limit_state s
        where s.license_id = l.license_id and s.meter = l.meter and not s.is_over
          and (now() at time zone 'UTC')::date >= s.period_start
          and (now() at time zone 'UTC')::date < s.period_end)
      """, operation: "read limits"
    ).rows.compactMap { row in
      guard let license = row[0].map(Identifier.init(_:)),
        let meter = row[1].map(Identifier.init(_:)),
        let start = row[2].flatMap(Int64.init),
        let end = row[3].flatMap(Int64.init)
      else { return nil }
      return LimitReached(
        licenseID: license, meter: meter, periodStart: start, periodEnd: end)
    }
  }

  /// A token that is not revoked.
  package struct TokenRow: Sendable, Equatable {
    package let tokenID: String
    /// The SHA-256 hash in lower-case hexadecimal.
    package let hash: String
    package let scopes: Set<String>
    package let customerID: Identifier?
    /// Milliseconds since 1970.
    package let expiresAt: Int64?

    package init(
      tokenID: String, hash: String, scopes: Set<String>, customerID: Identifier?,
      expiresAt: Int64?
    ) {
      self.tokenID = tokenID
      self.hash = hash
      self.scopes = scopes
      self.customerID = customerID
      self.expiresAt = expiresAt
    }
  }

  /// The tokens among `hashes` (SHA-256, hexadecimal) that are not revoked. Expired ones are
  /// included.
  package func tokens(hashes: [String]) throws(PostgresError) -> [TokenRow] {
    try tokens(hashes: hashes, andWhere: "true")
  }

  /// The tokens among `hashes` that are valid now, by the server's clock.
  package func validTokens(hashes: [String]) throws(PostgresError) -> [TokenRow] {
    try tokens(
      hashes: hashes, andWhere: "(expires_at is null or expires_at > clock_timestamp())")
  }

  private func tokens(
    hashes: [String], andWhere condition: String
  ) throws(PostgresError) -> [TokenRow] {
    try connection.prepared(
      """
      select token_id, encode(token_hash, 'hex'), array_to_string(scopes, ' '), customer_id,
        \(Self.milliseconds("expires_at"))
      from api_token
      where token_hash in (select decode(h, 'hex') from unnest($1::text[]) h) and revoked_at is null
        and \(condition)
      """, [.texts(hashes)], operation: "read tokens"
    ).rows.compactMap { row in
      guard let id = row[0], let hash = row[1] else { return nil }
      return TokenRow(
        tokenID: id, hash: hash,
        scopes: Set((row[2] ?? "").split(separator: " ").map(String.init)),
        customerID: row[3].map(Identifier.init(_:)),
        expiresAt: row[4].flatMap(Int64.init))
    }
  }

  /// Creates a token.
  ///
  /// - Parameter expiresInSeconds: nil if it never expires.
  /// - Throws: `PostgresError`, with `SQLState.foreignKeyViolation` if there is no such customer.
  package func createToken(
    id: String, name: String, hash: String, scopes: [String], customerID: String?,
    expiresInSeconds: Int64?
  ) throws(PostgresError) {
    try connection.query(
      """
      insert into api_token (token_id, name, token_hash, scopes, customer_id, expires_at)
      values ($1, $2, decode($3, 'hex'), $4::text[], $5, now() + make_interval(secs => $6::float8))
      """,
      [
        .text(id), .text(name), .text(hash), .texts(scopes), .optional(customerID),
        expiresInSeconds.map { .integer($0) } ?? .null,
      ], operation: "create token")
  }

  /// All tokens, newest first, for display.
  package func listTokens() throws(PostgresError) -> SQLRows {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as \(column)"
    }
    return try connection.query(
      """
      select token_id, name, array_to_string(scopes, ' ') as scopes, customer_id,
        \(time("created_at")), \(time("expires_at")), \(time("revoked_at"))
      from api_token order by api_token.created_at desc, token_id limit 100000
      """, operation: "list tokens")
  }

  /// - Returns: whether there is such a token. A token that was revoked before stays revoked.
  package func revokeToken(id: String) throws(PostgresError) -> Bool {
    try connection.query(
      "update api_token set revoked_at = coalesce(revoked_at, now()) where token_id = $1",
      [.text(id)], operation: "revoke token"
    ).affected == 1
  }

  private static func milliseconds(_ expression: String) -> String {
    "(extract(epoch from \(expression)) * 1000)::bigint"
  }
}
