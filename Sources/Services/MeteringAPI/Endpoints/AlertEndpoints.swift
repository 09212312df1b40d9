import Billing
import JSONText
import Metering
import PostgresStore
import WebhookDelivery

/// `/v1/alerts`.
enum AlertEndpoints {
  static let columns = [
    "alert_id", "type", "license_id", "customer_id", "occurred_at", "created_at", "data",
  ]

  static func cells(_ alert: AlertReads.Alert) -> [Cell] {
    [
      .integer(alert.id), .text(alert.type), .optional(alert.licenseID),
      .optional(alert.customerID), .time(alert.occurredAt), .time(alert.createdAt),
      .document(alert.data) { $0.equals("used") || $0.equals("limit") },
    ]
  }

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/alerts", .webhooksRead) { try await list($0) },
      .get("/v1/alerts/{id}", .webhooksRead) { request in
        let quotes = try request.finishQuery()
        var filter = AlertReads.Filter()
        filter.id = try request.number()
        filter.customer = request.caller.customerID?.string
        let chosen = filter
        let found = try await request.read { try AlertReads($0).list(chosen, limit: 1).first }
        guard let found else { throw Problem.notFound }
        // Offsets of the log mean nothing to a customer, and the partitions also hold other
        // customers' events.
        let evidence: [(String, Cell)] =
          request.caller.customerID == nil
          ? [("evidence", .optionalDocument(found.evidence))] : []
        return Resource(
          columns, cells(found), more: evidence, quotesQuantities: quotes
        ).answer()
      },
    ]
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    var filter = AlertReads.Filter()
    filter.license = fields.identifier("license_id")?.string
    filter.customer = fields.identifier("customer_id")?.string
    filter.type = fields.choice("type", of: AlertType.known)
    filter.from = fields.time("from")
    filter.to = fields.time("to")
    try fields.finish()
    if let own = request.caller.customerID {
      try request.caller.requireCustomer(filter.customer.map(Identifier.init(_:)) ?? own)
      filter.customer = own.string
    }
    let chosen = filter
    return try await request.list(window, "alerts", columns: columns) { connection, start in
      let found = try AlertReads(connection).list(
        chosen, before: start.after?.first.flatMap { Int64($0) }, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
