import Administration
import Billing
import HTTPTypes
import Metering
import PostgresStore

/// `/v1/tokens`, for administrators. A customer's administrator sees and makes tokens of that customer.
enum TokenEndpoints {
  static let columns = [
    "token_id", "name", "scopes", "customer_id", "created_at", "expires_at", "revoked_at",
  ]

  static func cells(_ token: TokenReads.Token) -> [Cell] {
    [
      .text(token.id), .text(token.name), .texts(token.scopes),
      .optional(token.customerID?.string), .time(token.createdAt),
      .optionalTime(token.expiresAt), .optionalTime(token.revokedAt),
    ]
  }

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/tokens", .admin) { try await list($0) },
      .get("/v1/tokens/{id}", .admin) { request in
        try request.finishQuery()
        let id = try request.id()
        let found = try await request.read { try TokenReads($0).list(id: id, limit: 1).first }
        guard let found else { throw Problem.notFound }
        try request.caller.requireCustomer(found.customerID)
        return Resource(columns, cells(found)).answer()
      },
      .post("/v1/tokens", .admin) { request in
        let body = try request.jsonValue
        return try await request.administer { administrator in
          let made = try administrator.createToken(Administrator.NewToken(body))
          return Resource(columns, cells(made.token), more: [("token", .text(made.secret))])
            .secretAnswer(status: .created, location: "/v1/tokens/" + made.token.id)
        }
      },
      .delete("/v1/tokens/{id}", .admin) { request in
        let id = try request.id()
        return try await request.administer { administrator in
          try administrator.revokeToken(id)
          return .noContent
        }
      },
    ]
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    let asked = fields.identifier("customer_id")
    try fields.finish()
    if let asked { try request.caller.requireCustomer(asked) }
    let customer = (asked ?? request.caller.customerID)?.string
    return try await request.list(window, "tokens", columns: columns) { connection, start in
      let found = try TokenReads(connection).list(
        customer: customer, before: start.after?.first, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
