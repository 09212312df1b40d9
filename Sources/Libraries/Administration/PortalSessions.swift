package import JSONText
import Metering
package import PostgresStore
import SystemRandom

/// Makes and revokes links that sign a customer in to the portal.
extension Administrator {
  package static let portalLifetime: ClosedRange<Int64> = 300...604_800

  /// Makes a link for a customer. Its secret is returned once, and only its hash is stored.
  ///
  /// - Parameter body: `expires_in` (from 5 minutes to 7 days, default: `1h`), `read_only`
  ///   (default: true), `licenses` (default: all of the customer), `return_url`, `theme` (default:
  ///   `auto`).
  /// - Returns: the session, and the secret whose hash `SessionStore.signIn` takes.
  /// - Throws: `AdministrationRefusal` with `bad_request` or `not_found`, or `PostgresError`.
  package func createPortalSession(
    customer: String, _ body: JSONValue
  ) throws -> (session: SessionStore.PortalSession, secret: String) {
    try checkTenant(Identifier(customer), "customer")
    let members = try Self.members(
      body, ["expires_in", "read_only", "licenses", "return_url", "theme"])
    let lifetime = try Self.lifetime(
      members, "expires_in", Self.portalLifetime, "must be from 5m to 7d, such as 1h")
    let licenses = try Self.texts(members, "licenses", bytes: Limits.subjectBytes, most: 1_000)
    if licenses?.isEmpty == true {
      throw AdministrationRefusal.invalid(
        "licenses", "must not be empty; leave it out for all licenses of the customer")
    }
    let secret = SystemRandom.base62("pl_", bytes: 32)
    let new = SessionStore.NewPortalSession(
      id: SystemRandom.base62("ps_", bytes: 9), customerID: customer, licenseIDs: licenses,
      isReadOnly: try Self.boolean(members, "read_only") ?? true,
      theme: try Self.choice(members, "theme", ["auto", "light", "dark"]) ?? "auto",
      returnURL: try Self.returnURL(members), lifetimeSeconds: lifetime ?? 3_600,
      createdBy: context.actorID, signInHash: SecretHash.of(secret))
    return try connection.transaction {
      guard try CustomerStore(connection).customer(customer) != nil else {
        throw AdministrationRefusal.noSuch("customer")
      }
      try checkLicenses(licenses ?? [], of: customer)
      let store = SessionStore(connection)
      try store.retain()
      let session = try store.create(new)
      try record(
        AuditedChange(
          "portal_session.create", "portal_session", session.id, customerID: customer,
          after: Self.audited(session)), status: 201)
      return (session, secret)
    }
  }

  /// Ends a session, or a link that nobody used. A session that has already ended does not change.
  ///
  /// - Throws: `AdministrationRefusal` with `not_found`, or `PostgresError`.
  package func revokePortalSession(_ id: String, customer: String) throws {
    try checkTenant(Identifier(customer), "customer")
    try connection.transaction {
      let store = SessionStore(connection)
      guard let session = try store.portalSessions(customer: customer, id: id, limit: 1).first,
        try store.revokePortalSession(id, customer: customer)
      else { throw AdministrationRefusal.noSuch("portal session") }
      try record(
        AuditedChange(
          "portal_session.revoke", "portal_session", id, customerID: customer,
          before: #"{"revoked":\#(session.revokedAt != nil)}"#, after: #"{"revoked":true}"#),
        status: 204)
    }
  }

  private func checkLicenses(_ ids: [String], of customer: String) throws {
    guard !ids.isEmpty else { return }
    let found = try AccessStore(connection).licenses(ids.map(Identifier.init(_:)))
    let own = Set(found.filter { $0.customerID == Identifier(customer) }.map(\.licenseID))
    guard ids.allSatisfy({ own.contains(Identifier($0)) }) else {
      throw AdministrationRefusal.invalid(
        "licenses", "names a license that the customer does not have")
    }
  }

  private static func returnURL(_ members: [JSONMember]) throws -> String? {
    guard let url = try text(members, "return_url", bytes: 2_048) else { return nil }
    // The text becomes a link on a page. So it must not have a scheme that runs something, and it
    // must not look like another host.
    let isWeb = url.hasPrefix("https://") || url.hasPrefix("http://")
    let host = url.drop { $0 != "/" }.dropFirst(2).prefix { !"/?#".contains($0) }
    guard isWeb, !host.isEmpty, !host.contains("@"), !host.contains("\\"),
      url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !"\"<>\\^`{|}".utf8.contains($0) })
    else {
      throw AdministrationRefusal.invalid(
        "return_url", "must be an address that begins with https://, in ASCII")
    }
    return url
  }

  private static func audited(_ session: SessionStore.PortalSession) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    writer.member("read_only", session.isReadOnly)
    if let licenses = session.licenseIDs {
      writer.member("licenses", licenses.map(\.string))
    }
    writer.member("theme", session.theme)
    writer.member("return_url", optional: session.returnURL)
    writer.member("expires_at", session.expiresAt)
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
  }
}
