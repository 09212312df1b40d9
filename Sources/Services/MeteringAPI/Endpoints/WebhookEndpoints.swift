import Administration
import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore

/// `/v1/webhook-endpoints`.
enum WebhookEndpoints {
  static let columns = [
    "endpoint_id", "customer_id", "url", "events", "status", "disabled_reason", "signing",
    "consecutive_failures", "failing_since", "paused_until", "created_at",
  ]

  static func cells(_ endpoint: EndpointStore.Endpoint) -> [Cell] {
    [
      .text(endpoint.id), .optional(endpoint.customer), .text(endpoint.url),
      .texts(endpoint.events), .text(endpoint.status), .optional(endpoint.disabledReason),
      .text(endpoint.signing), .integer(endpoint.consecutiveFailures),
      .optional(endpoint.failingSince), .optional(endpoint.openUntil), .text(endpoint.createdAt),
    ]
  }

  static func resource(_ endpoint: EndpointStore.Endpoint) -> Resource {
    Resource(columns, cells(endpoint))
  }

  private static let path = "/v1/webhook-endpoints"

  static func routes(_ context: APIContext) -> [Route] {
    let rules = context.settings.endpointRules
    return reads + [
      .post(path, .webhooksWrite) { request in
        let body = try request.jsonValue
        return try await request.administer { administrator in
          let made = try administrator.createEndpoint(Administrator.NewEndpoint(body), rules)
          return Resource(columns, cells(made.endpoint), more: [("secret", .text(made.secret))])
            .secretAnswer(status: .created, location: "\(path)/\(made.endpoint.id)")
        }
      },
      .patch(path + "/{id}", .webhooksWrite) { request in
        let (id, body) = (try request.id(), try request.jsonValue)
        return try await request.administer { administrator in
          resource(
            try administrator.updateEndpoint(id, patch: body, rules) {
              request.isExpected(resource($0))
            }
          ).answer()
        }
      },
      .delete(path + "/{id}", .webhooksWrite) { request in
        let id = try request.id()
        return try await request.administer { administrator in
          try administrator.deleteEndpoint(id)
          return .noContent
        }
      },
      .post(path + "/{id}/rotate-secret", .webhooksWrite) { request in
        let id = try request.id()
        try request.finishBody()
        return try await request.administer { administrator in
          let made = try administrator.rotateSecret(id, rules)
          return Resource(["endpoint_id", "secret"], [.text(id), .text(made.secret)])
            .secretAnswer(status: .ok)
        }
      },
      .post(path + "/{id}/enable", .webhooksWrite) { request in
        let id = try request.id()
        try request.finishBody()
        return try await request.administer { resource(try $0.enableEndpoint(id)).answer() }
      },
    ] + deliveries
  }

  private static var reads: [Route] {
    [
      .get(path, .webhooksRead) { try await list($0) },
      .get(path + "/{id}", .webhooksRead) { request in
        try request.finishQuery()
        let id = try request.id()
        let found = try await request.read { try EndpointStore($0).list(id: id, limit: 1).first }
        guard let found else { throw Problem.notFound }
        try request.caller.requireCustomer(found.customer.map(Identifier.init(_:)))
        return resource(found).answer()
      },
    ]
  }

  /// The operations that make deliveries.
  private static var deliveries: [Route] {
    [
      .post(path + "/{id}/test", .webhooksWrite) { request in
        let id = try request.id()
        try request.finishBody()
        return try await request.administer { administrator in
          let delivery = try administrator.testEndpoint(id)
          return Resource(["delivery_id"], [.integer(delivery)]).answer(
            status: .accepted, location: "/v1/webhook-deliveries/\(delivery)")
        }
      },
      .post(path + "/{id}/recover", .webhooksWrite) { request in
        let (id, body) = (try request.id(), try request.jsonValue)
        return try await request.administer { administrator in
          let members = try Administrator.members(body, ["since", "until"])
          guard let since = try Administrator.milliseconds(members, "since") else {
            throw AdministrationRefusal.invalid("since", "is missing")
          }
          guard let until = try Administrator.milliseconds(members, "until") else {
            throw AdministrationRefusal.invalid("until", "is missing")
          }
          let count = try administrator.recoverEndpoint(
            id, sinceMilliseconds: since, untilMilliseconds: until,
            most: Administrator.maximumRecovered)
          return Resource(["recovered"], [.integer(Int64(count))]).answer()
        }
      },
    ]
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    let asked = fields.identifier("customer_id")
    let status = fields.choice("status", of: ["active", "disabled"])
    try fields.finish()
    if let asked { try request.caller.requireCustomer(asked) }
    let customer = (asked ?? request.caller.customerID)?.string
    return try await request.list(window, "webhook-endpoints", columns: columns) {
      connection, start in
      let found = try DeliveryReads(connection).endpoints(
        customer: customer, status: status, after: start.after?.first, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
