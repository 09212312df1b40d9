import Administration
import Billing
import HTTPTypes
import Metering
import PostgresStore

/// `/v1/customers/{id}/portal-sessions`: links that sign a customer in.
enum PortalSessionEndpoints {
  static let columns = [
    "session_id", "customer_id", "licenses", "read_only", "theme", "return_url", "created_at",
    "created_by", "expires_at", "signed_in_at", "revoked_at", "status",
  ]

  static func cells(_ session: SessionStore.PortalSession) -> [Cell] {
    [
      .text(session.id), .text(session.customerID.string),
      session.licenseIDs.map { .texts($0.map(\.string)) } ?? .null, .boolean(session.isReadOnly),
      .text(session.theme), .optional(session.returnURL), .text(session.createdAt),
      .text(session.createdBy), .text(session.expiresAt), .optional(session.signedInAt),
      .optional(session.revokedAt), .text(status(session)),
    ]
  }

  private static func status(_ session: SessionStore.PortalSession) -> String {
    if session.revokedAt != nil { return "revoked" }
    if session.isExpired { return "expired" }
    return session.signedInAt == nil ? "unused" : "signed_in"
  }

  private static let path = "/v1/customers/{id}/portal-sessions"

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get(path, .licensesRead) { try await list($0) },
      .get(path + "/{session_id}", .licensesRead) { request in
        try request.finishQuery()
        let (customer, id) = (try request.id(), try request.id("session_id"))
        try request.caller.requireCustomer(Identifier(customer))
        let found = try await request.read {
          try SessionStore($0).portalSessions(customer: customer, id: id, limit: 1).first
        }
        guard let found else { throw Problem.notFound }
        return Resource(columns, cells(found)).answer()
      },
      .post(path, .licensesWrite) { request in
        let (customer, body) = (try request.id(), try request.jsonValue)
        let settings = request.context.settings
        return try await request.administer { administrator in
          let made = try administrator.createPortalSession(customer: customer, body)
          return Resource(
            ["url", "session_id", "expires_at"],
            [
              .text(settings.page("/portal") + "?link=" + made.secret), .text(made.session.id),
              .text(made.session.expiresAt),
            ]
          ).secretAnswer(
            status: .created,
            location:
              "/v1/customers/\(PathSegment.encode(customer))/portal-sessions/\(made.session.id)")
        }
      },
      .delete(path + "/{session_id}", .licensesWrite) { request in
        let (customer, id) = (try request.id(), try request.id("session_id"))
        return try await request.administer { administrator in
          try administrator.revokePortalSession(id, customer: customer)
          return .noContent
        }
      },
    ]
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    try fields.finish()
    let customer = try request.id()
    try request.caller.requireCustomer(Identifier(customer))
    let exists = try await request.read { try CustomerStore($0).customer(customer) != nil }
    guard exists else { throw Problem.notFound("customer") }
    return try await request.list(window, "portal-sessions", columns: columns) {
      connection, start in
      let found = try SessionStore(connection).portalSessions(
        customer: customer, before: start.after?.first, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
