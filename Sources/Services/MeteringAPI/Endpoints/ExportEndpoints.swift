import Billing
import HTTPTypes
import Metering
import PostgresStore
import StripeExport

/// `/v1/exports` lists what was exported to Stripe, hour by hour, and starts a new export.
enum ExportEndpoints {
  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/exports", .billingRead) { try await list($0) },
      .post("/v1/exports/stripe", .billingWrite) { try await export($0) },
    ]
  }

  private static let columns = [
    "target", "customer_id", "stripe_customer_id", "meter", "event_name", "hour", "mode", "status",
    "quantity", "sent_quantity", "credit_quantity", "revision", "identifier", "attempts", "detail",
    "updated_at",
  ]

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    var filter = StripeExportReads.Filter()
    filter.status = fields.choice("status", of: StripeStatus.allCases.map(\.rawValue))
    filter.customer = fields.identifier("customer_id")
    filter.meter = fields.meter("meter")?.string
    filter.from = fields.time("from")
    filter.to = fields.time("to")
    try fields.finish()
    if let own = request.caller.customerID {
      try request.caller.requireCustomer(filter.customer ?? own)
      filter.customer = own
    }
    let wanted = filter
    return try await request.list(window, "exports", columns: columns) { connection, start in
      let found = try StripeExportReads(connection).rows(
        wanted, after: start.after, limit: start.limit + 1)
      let shown = found.prefix(start.limit)
      return ListPage(
        rows: shown.map(row), next: found.count > start.limit ? shown.last?.key : nil)
    }
  }

  private static func row(_ row: StripeExportReads.Row) -> [Cell] {
    let credit = row.status == StripeStatus.credit.rawValue ? row.accepted - row.quantity : 0
    return [
      .text("stripe"), .text(row.customer.string), .optional(row.stripeCustomerID),
      .text(row.meter), .optional(row.eventName), .time(row.hour), .optional(row.mode),
      .text(row.status), .quantity(row.quantity), .quantity(row.accepted), .quantity(credit),
      .integer(row.revision), .optional(row.identifier), .integer(row.attempts),
      .optional(row.detail), .time(row.updatedAt),
    ]
  }

  // MARK: Exporting

  private static func export(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    let quotes = try request.finishQuery()
    var json = try request.json
    let mode = json.required("mode", json.choice("mode", StripeMode.self))
    let through = json.time("through")
    try json.finish()
    guard let exports = request.context.exports else {
      throw Problem(
        .serviceUnavailable, "no_stripe",
        "Set METER_STRIPE_API_KEY and METER_STRIPE_METERS to export usage to Stripe.",
        headers: [.retryAfter: "60"])
    }
    if let earlier = try await request.earlierAnswer() { return earlier }
    let report: StripeExportReport
    do {
      report = try await exports.export(
        mode: mode ?? .sum, through: through, by: request.auditContext)
    } catch let refusal as StripeExportRefusal {
      throw Problem(refusal)
    }
    if let problem = report.problem { throw Problem(StripeExportRefusal.stripe(problem)) }
    return try await request.write { _ in
      APIAnswer.object(status: report.isFinished ? .ok : .accepted) {
        report.write(to: &$0, quotesQuantities: quotes)
      }
    }
  }
}

extension Problem {
  fileprivate init(_ refusal: StripeExportRefusal) {
    let detail = "\(refusal)".prefix(1).uppercased() + "\(refusal)".dropFirst() + "."
    switch refusal {
    case .notReady(let code, let text):
      self.init(
        .conflict, "not_ready", detail,
        members: [("blockers", ClosePreview.json([.init(code, text)]))])
    case .underway: self = .conflict("export_underway", detail)
    case .meters: self = .conflict("stripe_meters", detail)
    case .noMeters:
      self.init(.serviceUnavailable, "no_stripe", detail, headers: [.retryAfter: "60"])
    case .stripe:
      self.init(
        .badGateway, "stripe_failed",
        detail + " What was not sent is kept, and the next export sends it.",
        headers: [.retryAfter: "60"])
    }
  }
}
