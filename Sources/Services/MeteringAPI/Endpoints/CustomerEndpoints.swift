import Administration
import Billing
import HTTPTypes
import Metering
import PostgresStore

/// `/v1/customers`.
enum CustomerEndpoints {
  static let columns = ["customer_id", "name", "stripe_customer_id", "created_at"]

  static func cells(_ customer: CustomerStore.Customer) -> [Cell] {
    [
      .text(customer.id.string), .text(customer.name), .optional(customer.stripeCustomerID),
      .time(customer.createdAt),
    ]
  }

  static func resource(_ customer: CustomerStore.Customer) -> Resource {
    Resource(columns, cells(customer))
  }

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/customers", .licensesRead) { try await list($0) },
      .get("/v1/customers/{id}", .licensesRead) { request in
        try request.finishQuery()
        let id = try request.id()
        try request.caller.requireCustomer(Identifier(id))
        let found = try await request.read { try CustomerStore($0).customer(id) }
        guard let found else { throw Problem.notFound("customer") }
        return resource(found).answer()
      },
      .post("/v1/customers", .licensesWrite) { request in
        let body = try request.jsonValue
        return try await request.administer { administrator in
          let made = try administrator.createCustomer(body)
          return resource(made).answer(
            status: .created, location: "/v1/customers/" + PathSegment.encode(made.id.string))
        }
      },
      .patch("/v1/customers/{id}", .licensesWrite) { request in
        let (id, body) = (try request.id(), try request.jsonValue)
        return try await request.administer { administrator in
          let changed = try administrator.updateCustomer(id, patch: body) {
            request.isExpected(resource($0))
          }
          return resource(changed).answer()
        }
      },
    ]
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    let search = fields.text("search", atMost: 256)
    try fields.finish()
    let own = request.caller.customerID?.string
    return try await request.list(window, "customers", columns: columns) { connection, start in
      let found = try CustomerStore(connection).list(
        id: own, search: search, after: start.after?.first, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
