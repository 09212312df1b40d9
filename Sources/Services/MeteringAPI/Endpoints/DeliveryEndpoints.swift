import Administration
import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore
import WebhookDelivery

/// `/v1/webhook-deliveries`.
enum DeliveryEndpoints {
  static let columns = [
    "delivery_id", "webhook_id", "endpoint_id", "alert_id", "type", "license_id", "customer_id",
    "status", "attempts", "next_attempt_at", "created_at", "finished_at", "last_status_code",
    "last_error",
  ]

  static func cells(_ delivery: DeliveryReads.Delivery) -> [Cell] {
    [
      .integer(delivery.id), .text(delivery.webhookID), .text(delivery.endpointID),
      .integer(delivery.alertID), .text(delivery.type), .optional(delivery.licenseID),
      .optional(delivery.customerID), .text(delivery.status), .integer(delivery.attempts),
      .optionalTime(delivery.nextAttemptAt), .time(delivery.createdAt),
      .optionalTime(delivery.finishedAt), .optional(delivery.lastStatusCode),
      .optional(delivery.lastError),
    ]
  }

  private static let path = "/v1/webhook-deliveries"

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get(path, .webhooksRead) { try await list($0) },
      .get(path + "/{id}", .webhooksRead) { request in
        try request.finishQuery()
        let (id, settings) = (try request.number(), request.context.settings)
        let caller = request.caller
        return try await request.read { try show(id, caller, settings, $0).answer() }
      },
      .post(path + "/{id}/redeliver", .webhooksWrite) { request in
        let (id, settings) = (try request.number(), request.context.settings)
        try request.finishBody()
        let caller = request.caller
        return try await request.administer { administrator in
          try administrator.redeliver(id)
          return try show(id, caller, settings, administrator.connection).answer(status: .accepted)
        }
      },
    ]
  }

  /// Answers a delivery with the request that is sent and with every attempt.
  private static func show(
    _ id: Int64, _ caller: Caller, _ settings: APISettings, _ connection: PostgresConnection
  ) throws -> Resource {
    var filter = DeliveryReads.Filter()
    filter.id = id
    guard let found = try DeliveryReads(connection).list(filter, limit: 1).first,
      let detail = try EndpointStore(connection).delivery(id),
      let data = try DeliveryReads(connection).data(id)
    else { throw Problem.notFound }
    try caller.requireCustomer(found.endpointCustomerID.map(Identifier.init(_:)))
    let body = WebhookBody.make(
      id: found.webhookID, timestamp: detail.occurredAt, type: found.type, data: data,
      url: settings.pages?.alert(
        found.alertID, isForCustomer: found.endpointCustomerID != nil))
    return Resource(
      columns, cells(found),
      more: [
        ("url", .text(detail.url)), ("occurred_at", .text(detail.occurredAt)),
        ("body", .json(body)), ("attempt_log", attempts(detail)),
      ])
  }

  private static func attempts(_ detail: EndpointStore.DeliveryDetail) -> Cell {
    var json = JSONWriter()
    json.beginArray()
    for attempt in detail.attempts {
      let trace = detail.trace.map {
        WebhookTrace.context(
          of: $0, webhookID: detail.delivery.webhookID, attempt: attempt.number)
      }
      json.beginObject()
      json.member("attempt", attempt.number)
      json.member("at", attempt.at)
      json.member("status_code", cell: .optional(attempt.statusCode))
      json.member("error", cell: .optional(attempt.error))
      json.member("duration_ms", attempt.durationMilliseconds)
      // A receiver may answer with any bytes. Bytes that are not UTF-8 are shown as U+FFFD.
      json.member("response", String(decoding: attempt.response, as: UTF8.self))
      json.member("traceparent", cell: .optional(trace?.traceparent))
      json.endObject()
    }
    json.endArray()
    return .json(json.bytes)
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    var filter = DeliveryReads.Filter()
    filter.endpoint = fields.text("endpoint_id", atMost: 100)
    filter.alert = fields.integer("alert_id", in: 0...Int64.max)
    filter.license = fields.identifier("license_id")?.string
    filter.webhookID = fields.text("webhook_id", atMost: 100)
    filter.status = fields.choice(
      "status", of: ["pending", "delivered", "failed", "discarded"])
    let asked = fields.identifier("customer_id")
    try fields.finish()
    if let asked { try request.caller.requireCustomer(asked) }
    filter.endpointCustomer = (asked ?? request.caller.customerID)?.string
    let chosen = filter
    return try await request.list(window, "webhook-deliveries", columns: columns) {
      connection, start in
      let found = try DeliveryReads(connection).list(
        chosen, before: start.after?.first.flatMap { Int64($0) }, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
