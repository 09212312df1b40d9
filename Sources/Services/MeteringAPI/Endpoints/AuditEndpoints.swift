import Billing
import Metering
import PostgresStore

/// `GET /v1/audit`, for administrators. A customer's administrator sees the entries about that
/// customer.
enum AuditEndpoints {
  static let columns = [
    "audit_id", "at", "actor_kind", "actor_id", "action", "resource_kind", "resource_id",
    "customer_id", "before", "after", "request_id", "address", "user_agent", "status",
  ]

  static func cells(_ entry: AuditStore.Entry) -> [Cell] {
    [
      .integer(entry.id), .text(entry.at), .text(entry.actorKind), .text(entry.actorID),
      .text(entry.action), .text(entry.resourceKind), .text(entry.resourceID),
      .optional(entry.customerID), .optionalDocument(entry.before),
      .optionalDocument(entry.after), .optional(entry.requestID), .optional(entry.address),
      .optional(entry.userAgent), .integer(entry.status),
    ]
  }

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/audit", .admin) { request in
        var fields = try request.query
        let window = fields.listWindow()
        var filter = AuditStore.Filter()
        filter.actorID = fields.text("actor_id", atMost: 256)
        filter.action = fields.text("action", atMost: 64)
        filter.resourceKind = fields.text("resource_kind", atMost: 64)
        filter.resourceID = fields.text("resource_id", atMost: 1_024)
        filter.customerID = fields.identifier("customer_id")?.string
        filter.fromMilliseconds = fields.time("from")
        filter.toMilliseconds = fields.time("to")
        try fields.finish()
        if let own = request.caller.customerID {
          try request.caller.requireCustomer(filter.customerID.map(Identifier.init(_:)) ?? own)
          filter.customerID = own.string
        }
        let chosen = filter
        return try await request.list(window, "audit", columns: columns) { connection, start in
          let found = try AuditStore(connection).list(
            chosen, before: start.after?.first.flatMap { Int64($0) }, limit: start.limit + 1)
          return ListPage(found.map(cells), start) { [$0[0].key] }
        }
      }
    ]
  }
}
