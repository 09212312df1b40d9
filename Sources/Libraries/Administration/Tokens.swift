package import JSONText
import Metering
package import PostgresStore
import SystemRandom

/// Makes and revokes API tokens.
extension Administrator {
  /// The values of a new token.
  package struct NewToken: Sendable {
    package var name: String
    package var scopes: [String]
    package var customerID: String?
    /// Nil if it is valid until it is revoked.
    package var lifetimeSeconds: Int64?

    package init(name: String, scopes: [String], customerID: String?, lifetimeSeconds: Int64?) {
      self.name = name
      self.scopes = scopes
      self.customerID = customerID
      self.lifetimeSeconds = lifetimeSeconds
    }

    /// - Parameter body: `name`, `scopes`, `customer_id` and `expires_in` (such as `90d`).
    /// - Throws: `AdministrationRefusal` with `bad_request`.
    package init(_ body: JSONValue) throws {
      let members = try Administrator.members(
        body, ["name", "scopes", "customer_id", "expires_in"])
      name = try Administrator.text(members, "name", bytes: 200) ?? ""
      scopes = try Administrator.texts(members, "scopes", bytes: 64, most: 32) ?? []
      customerID = try Administrator.text(members, "customer_id", bytes: 256)
      lifetimeSeconds = try Administrator.lifetime(
        members, "expires_in", 60...3_153_600_000,
        "must be a number with m, h or d, such as 90d, and at most 100 years")
    }
  }

  /// Makes a token. Its secret is returned once, and only its hash is stored.
  ///
  /// - Throws: `AdministrationRefusal` with `bad_request` or `not_found` (for the customer), or
  ///   `PostgresError`.
  package func createToken(_ new: NewToken) throws -> (token: TokenReads.Token, secret: String) {
    guard Self.isIdentifier(new.name, bytes: 200), !new.name.isBlank else {
      throw AdministrationRefusal.invalid(
        "name", "must be a string of 1 to 200 bytes without control characters, and not blank")
    }
    let known = Set(TokenScope.allCases.map { Identifier($0.rawValue) })
    guard !new.scopes.isEmpty, new.scopes.allSatisfy({ known.contains(Identifier($0)) }) else {
      throw AdministrationRefusal.invalid(
        "scopes",
        "must be one or more of \(TokenScope.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    let customer = new.customerID ?? tenant?.string
    if let customer { try checkTenant(Identifier(customer), "customer") }
    let id = SystemRandom.base62("tok_", bytes: 8)
    let secret = SystemRandom.base62("mtr_", bytes: 32)
    return try connection.transaction {
      do {
        try AccessStore(connection).createToken(
          id: id, name: new.name, hash: SecretHash.of(secret), scopes: new.scopes,
          customerID: customer, expiresInSeconds: new.lifetimeSeconds)
      } catch let error as PostgresError where error.sqlState == SQLState.foreignKeyViolation {
        throw AdministrationRefusal.noSuch("customer")
      }
      guard let token = try TokenReads(connection).list(id: id, limit: 1).first else {
        throw AdministrationRefusal.noSuch("token")
      }
      try record(
        AuditedChange(
          "token.create", "token", id, customerID: customer, after: Self.audited(token)),
        status: 201)
      return (token, secret)
    }
  }

  /// Revokes a token, which all services notice within a second. A token that has already ended
  /// does not change.
  ///
  /// - Throws: `AdministrationRefusal` with `not_found`, or `PostgresError`.
  package func revokeToken(_ id: String) throws {
    try connection.transaction {
      guard let token = try TokenReads(connection).list(id: id, limit: 1).first else {
        throw AdministrationRefusal.noSuch("token")
      }
      try checkTenant(token.customerID, "token")
      _ = try AccessStore(connection).revokeToken(id: id)
      try record(
        AuditedChange(
          "token.revoke", "token", id, customerID: token.customerID?.string,
          before: #"{"revoked":\#(token.revokedAt != nil)}"#, after: #"{"revoked":true}"#),
        status: 204)
    }
  }

  private static func audited(_ token: TokenReads.Token) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    writer.member("name", token.name)
    writer.member("scopes", token.scopes)
    writer.member("customer_id", optional: token.customerID?.string)
    writer.member("expires_at", optional: token.expiresAt.map { UTCTime.text($0) })
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
  }
}
