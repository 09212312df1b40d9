package import Metering

/// Sessions of people. They are links to the portal with the sessions that begin with them, and
/// browsers that signed in to the pages with a token.
///
/// The caller makes and hashes secrets, and only hexadecimal SHA-256 hashes come here. Every
/// request for a page reads a session by the hash of its cookie, which is one probe of a unique
/// index.
package struct SessionStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  // MARK: The portal

  package struct PortalSession: Sendable, Equatable {
    package var id: String
    package var customerID: Identifier
    /// The licenses that the session may see. Nil stands for all licenses of the customer.
    package var licenseIDs: [Identifier]?
    package var isReadOnly: Bool
    /// The theme, which is `auto`, `light` or `dark`.
    package var theme: String
    package var returnURL: String?
    /// RFC 3339, UTC, seconds.
    package var createdAt: String
    package var createdBy: String
    package var expiresAt: String
    package var signedInAt: String?
    package var revokedAt: String?
    package var isExpired: Bool
    /// 32 bytes, once the session has begun. Forms carry a token that is derived from them.
    package var csrfSecret: [UInt8]?
  }

  package struct NewPortalSession: Sendable {
    package var id: String
    package var customerID: String
    package var licenseIDs: [String]?
    package var isReadOnly: Bool
    package var theme: String
    package var returnURL: String?
    package var lifetimeSeconds: Int64
    package var createdBy: String
    /// The hash of the link's secret.
    package var signInHash: String

    package init(
      id: String, customerID: String, licenseIDs: [String]?, isReadOnly: Bool, theme: String,
      returnURL: String?, lifetimeSeconds: Int64, createdBy: String, signInHash: String
    ) {
      self.id = id
      self.customerID = customerID
      self.licenseIDs = licenseIDs
      self.isReadOnly = isReadOnly
      self.theme = theme
      self.returnURL = returnURL
      self.lifetimeSeconds = lifetimeSeconds
      self.createdBy = createdBy
      self.signInHash = signInHash
    }
  }

  /// Makes a new link.
  ///
  /// - Throws: `PostgresError`. It is 23503 if there is no such customer.
  package func create(_ new: NewPortalSession) throws(PostgresError) -> PortalSession {
    let rows = try connection.query(
      """
      insert into portal_session as s (session_id, customer_id, license_ids, read_only, theme, return_url, expires_at,
        created_by, sign_in_hash)
      values ($1, $2, case when $3::boolean then $4::text[] end, $5::boolean, $6, $7, now() + make_interval(secs => $8::float8),
        $9, decode($10, 'hex'))
      returning \(Self.portalColumns)
      """,
      [
        .text(new.id), .text(new.customerID), .boolean(new.licenseIDs != nil),
        .texts(new.licenseIDs ?? []), .boolean(new.isReadOnly), .text(new.theme),
        .optional(new.returnURL), .integer(new.lifetimeSeconds), .text(new.createdBy),
        .text(new.signInHash),
      ], operation: "make a portal session")
    return Self.portalSessions(rows)[0]
  }

  /// Lists a customer's sessions, newest first. Sessions that have ended are included until they
  /// are deleted.
  ///
  /// - Parameter before: a cursor. Only sessions after the one with this id are listed.
  package func portalSessions(
    customer: String, id: String? = nil, before: String? = nil, limit: Int
  ) throws(PostgresError) -> [PortalSession] {
    Self.portalSessions(
      try connection.query(
        """
        select \(Self.portalColumns) from portal_session s
        where customer_id = $1 and ($2::text is null or session_id = $2)
          and ($3::text is null or (created_at, session_id) <
            (select b.created_at, b.session_id from portal_session b where b.session_id = $3 and b.customer_id = $1))
        order by created_at desc, session_id desc limit $4::int
        """, [.text(customer), .optional(id), .optional(before), .int(limit)],
        operation: "read portal sessions"))
  }

  /// Ends a session, or a link that was not used. A session that ended before keeps its end.
  ///
  /// - Returns: whether the customer has such a session.
  package func revokePortalSession(
    _ id: String, customer: String
  ) throws(PostgresError) -> Bool {
    try connection.query(
      """
      update portal_session set revoked_at = coalesce(revoked_at, now()) where session_id = $1 and customer_id = $2
      """, [.text(id), .text(customer)], operation: "revoke a portal session"
    ).affected == 1
  }

  /// Uses a link up and begins its session with a cookie. If two requests use the same link, one of
  /// them gets nil.
  ///
  /// - Parameters:
  ///   - signInHash: the SHA-256 of the link's secret.
  ///   - cookieHash: the SHA-256 of the new cookie's value.
  ///   - csrfSecret: 32 random bytes.
  /// - Returns: nil if there is no such link, or if it was used or revoked or is too old.
  package func signIn(
    signInHash: String, cookieHash: String, csrfSecret: [UInt8]
  ) throws(PostgresError) -> PortalSession? {
    Self.portalSessions(
      try connection.query(
        """
        update portal_session s set signed_in_at = now(), cookie_hash = decode($2, 'hex'), csrf_secret = $3
        where sign_in_hash = decode($1, 'hex') and signed_in_at is null and revoked_at is null and expires_at > now()
        returning \(Self.portalColumns)
        """, [.text(signInHash), .text(cookieHash), .bytes(csrfSecret)],
        operation: "sign in to the portal")
    ).first
  }

  /// Whether a link could be used now. It changes nothing.
  ///
  /// - Parameter signInHash: the SHA-256 of the link's secret.
  package func isUsable(signInHash: String) throws(PostgresError) -> Bool {
    try !connection.prepared(
      """
      select 1 from portal_session
      where sign_in_hash = decode($1, 'hex') and signed_in_at is null and revoked_at is null and expires_at > now()
      """, [.text(signInHash)], operation: "look for a link"
    ).isEmpty
  }

  /// The session of a cookie. Nil once it has ended.
  package func portalSession(cookieHash: String) throws(PostgresError) -> PortalSession? {
    Self.portalSessions(
      try connection.prepared(
        """
        select \(Self.portalColumns) from portal_session s
        where cookie_hash = decode($1, 'hex') and revoked_at is null and expires_at > now()
        """, [.text(cookieHash)], operation: "read a portal session")
    ).first
  }

  private static let portalColumns = """
    session_id, customer_id, to_json(license_ids), read_only, theme, return_url, \(time("created_at")), created_by,
    \(time("expires_at")), \(time("signed_in_at")), \(time("revoked_at")), expires_at <= now(), encode(csrf_secret, 'hex'),
    array_to_string(array(select encode(convert_to(u, 'UTF8'), 'hex') from unnest(license_ids) with ordinality x(u, n) order by n), ',')
    """

  private static func portalSessions(_ rows: SQLRows) -> [PortalSession] {
    rows.rows.indices.map { i in
      let ids = (rows.text(i, 13) ?? "").split(separator: ",").map {
        Identifier(String(decoding: Hexadecimal.bytes($0), as: UTF8.self))
      }
      return PortalSession(
        id: rows.text(i, 0) ?? "", customerID: Identifier(rows.text(i, 1) ?? ""),
        licenseIDs: rows.text(i, 2) == nil ? nil : ids, isReadOnly: rows.boolean(i, 3),
        theme: rows.text(i, 4) ?? "", returnURL: rows.text(i, 5), createdAt: rows.text(i, 6) ?? "",
        createdBy: rows.text(i, 7) ?? "", expiresAt: rows.text(i, 8) ?? "",
        signedInAt: rows.text(i, 9), revokedAt: rows.text(i, 10), isExpired: rows.boolean(i, 11),
        csrfSecret: rows.text(i, 12).map { Hexadecimal.bytes($0) })
    }
  }

  // MARK: Pages

  package struct PageSession: Sendable, Equatable {
    package var id: String
    /// The session's token, which decides what the session may do.
    package var token: AccessStore.TokenRow
    package var tokenName: String
    /// 32 bytes. Forms carry a token that is derived from them.
    package var csrfSecret: [UInt8]
    /// RFC 3339, UTC, seconds.
    package var expiresAt: String
  }

  /// In how many browsers a token may be signed in. One more signs the oldest out.
  package static let maximumPageSessions = 100

  /// Begins a session for a valid token. The session ends with the token at the latest.
  ///
  /// - Parameters:
  ///   - tokenHash: the SHA-256 of the token.
  ///   - cookieHash: the SHA-256 of the new cookie's value.
  ///   - csrfSecret: 32 random bytes.
  /// - Returns: nil if there is no such token, or if it was revoked or has expired.
  package func signIn(
    id: String, tokenHash: String, cookieHash: String, csrfSecret: [UInt8], lifetimeSeconds: Int64
  ) throws(PostgresError) -> PageSession? {
    let made = try connection.query(
      """
      insert into page_session (session_id, token_id, cookie_hash, csrf_secret, expires_at)
      select $1, token_id, decode($3, 'hex'), $4, least(now() + make_interval(secs => $5::float8), expires_at)
      from api_token
      where token_hash = decode($2, 'hex') and revoked_at is null and coalesce(expires_at > now(), true)
      returning token_id
      """,
      [
        .text(id), .text(tokenHash), .text(cookieHash), .bytes(csrfSecret),
        .integer(lifetimeSeconds),
      ], operation: "sign in to the pages")
    guard let token = made.rows.first?[0] else { return nil }
    try connection.query(
      """
      update page_session set ended_at = now() where ended_at is null and session_id in (
        select session_id from page_session where token_id = $1 and ended_at is null and expires_at > now()
        order by created_at desc, session_id offset $2::int)
      """, [.text(token), .int(Self.maximumPageSessions)], operation: "sign in to the pages")
    return try pageSession(cookieHash: cookieHash)
  }

  /// The session of a cookie. Nil once the session or its token has ended.
  package func pageSession(cookieHash: String) throws(PostgresError) -> PageSession? {
    let rows = try connection.prepared(
      """
      select session_id, encode(csrf_secret, 'hex'), \(Self.time("s.expires_at")), token_id, encode(token_hash, 'hex'),
        array_to_string(scopes, ' '), customer_id, (extract(epoch from t.expires_at) * 1000)::bigint, name
      from page_session s join api_token t using (token_id)
      where cookie_hash = decode($1, 'hex') and ended_at is null and s.expires_at > now()
        and t.revoked_at is null and coalesce(t.expires_at > now(), true)
      """, [.text(cookieHash)], operation: "read a page session")
    guard !rows.isEmpty else { return nil }
    return PageSession(
      id: rows.text(0, 0) ?? "",
      token: AccessStore.TokenRow(
        tokenID: rows.text(0, 3) ?? "", hash: rows.text(0, 4) ?? "",
        scopes: Set((rows.text(0, 5) ?? "").split(separator: " ").map(String.init)),
        customerID: rows.text(0, 6).map(Identifier.init(_:)), expiresAt: rows.integer(0, 7)),
      tokenName: rows.text(0, 8) ?? "", csrfSecret: Hexadecimal.bytes(rows.text(0, 1) ?? ""),
      expiresAt: rows.text(0, 2) ?? "")
  }

  /// Signs a browser out of the pages.
  package func endPageSession(cookieHash: String) throws(PostgresError) {
    try connection.query(
      "update page_session set ended_at = coalesce(ended_at, now()) where cookie_hash = decode($1, 'hex')",
      [.text(cookieHash)], operation: "sign out")
  }

  /// Signs a browser out of the portal.
  package func endPortalSession(cookieHash: String) throws(PostgresError) {
    try connection.query(
      "update portal_session set revoked_at = coalesce(revoked_at, now()) where cookie_hash = decode($1, 'hex')",
      [.text(cookieHash)], operation: "sign out")
  }

  // MARK: Housekeeping

  /// Deletes sessions that ended more than 30 days ago, at most `most` of each kind. The audit log
  /// still has their creation.
  package func retain(most: Int = 1_000) throws(PostgresError) {
    for table in ["portal_session", "page_session"] {
      try connection.query(
        """
        delete from \(table) where session_id in (
          select session_id from \(table) where expires_at < now() - interval '30 days' order by expires_at limit $1::int)
        """, [.int(most)], operation: "retain sessions")
    }
  }

  private static func time(_ column: String) -> String {
    "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
  }
}
