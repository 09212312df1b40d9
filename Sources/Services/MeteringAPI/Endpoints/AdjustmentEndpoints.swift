import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore

/// `/v1/adjustments` lists corrections and records new ones. No correction is ever edited or
/// deleted.
enum AdjustmentEndpoints {
  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/adjustments", .billingRead) { try await list($0) },
      .post("/v1/adjustments", .billingWrite) { try await adjust($0) },
      .post("/v1/adjustments/{adjustment_id}/reverse", .billingWrite) { try await reverse($0) },
    ]
  }

  private static let columns = [
    "adjustment_id", "license_id", "customer_id", "meter", "applies_to_period_start",
    "invoiced_period_start", "kind", "quantity", "event_count", "reason", "recorded_by",
    "recorded_at", "reverses", "reversed_by",
  ]

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    var filter = AdjustmentStore.Filter(
      license: fields.identifier("license_id"), customer: fields.identifier("customer_id"),
      meter: fields.meter("meter")?.string,
      kind: fields.choice("kind", of: ["late", "manual"]))
    try fields.finish()
    if let own = request.caller.customerID {
      try request.caller.requireCustomer(filter.customer ?? own)
      filter.customer = own
    }
    let wanted = filter
    return try await request.list(window, "adjustments", columns: columns) { connection, start in
      let found = try AdjustmentStore(connection).adjustments(
        wanted, after: start.after, limit: start.limit + 1)
      let shown = found.prefix(start.limit)
      return ListPage(
        rows: shown.map(row), next: found.count > start.limit ? shown.last?.key : nil)
    }
  }

  private static func row(_ entry: AdjustmentStore.Entry) -> [Cell] {
    [
      .text(entry.id), .text(entry.license.string), .optional(entry.customer?.string),
      .text(entry.meter), .time(entry.appliesTo), .time(entry.invoiced), .text(entry.kind),
      .quantity(entry.quantity), .integer(entry.eventCount), .text(entry.reason),
      .text(entry.recordedBy), .time(entry.recordedAt), .optional(entry.reverses),
      .optional(entry.reversedBy),
    ]
  }

  private static func adjust(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    let quotes = try request.finishQuery()
    var json = try request.json
    let license = json.required("license_id", json.identifier("license_id"))
    let meter = json.required("meter", json.text("meter", atMost: 64))
    if let meter, !MeterName.isValid(meter) {
      json.blame("meter", "It must match [a-z][a-z0-9_]{0,63}.")
    }
    let appliesTo = json.required(
      "applies_to_period_start", json.day("applies_to_period_start"))
    let bounds = -AdjustmentStore.maximumQuantity...AdjustmentStore.maximumQuantity
    let quantity = json.required("quantity", json.integer("quantity", in: bounds))
    let events = json.integer("event_count", in: bounds) ?? 0
    if quantity == 0, events == 0 { json.blame("quantity", "It must not be 0.") }
    let reason = json.required("reason", json.prose("reason"))
    try json.finish()
    let wanted = AdjustmentStore.Adjustment(
      license: license ?? "", meter: meter ?? "", appliesTo: appliesTo ?? "",
      quantity: quantity ?? 0, eventCount: events, reason: reason ?? "",
      recordedBy: request.caller.name)
    return try await request.write { transaction in
      let store = AdjustmentStore(transaction.connection)
      return try answer(
        try store.adjust(wanted), store, transaction, "adjustment.create", quotesQuantities: quotes)
    }
  }

  private static func reverse(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    let quotes = try request.finishQuery()
    var json = try request.json
    let reason = json.prose("reason")
    try json.finish()
    let id = try request.parameter("adjustment_id").string
    let by = request.caller.name
    return try await request.write { transaction in
      let store = AdjustmentStore(transaction.connection)
      let outcome = try store.reverse(id, reason: reason ?? "reverses \(id)", recordedBy: by)
      return try answer(
        outcome, store, transaction, "adjustment.reverse", quotesQuantities: quotes)
    }
  }

  private static func answer(
    _ outcome: AdjustmentStore.Outcome, _ store: AdjustmentStore, _ transaction: WriteTransaction,
    _ action: String, quotesQuantities: Bool
  ) throws -> APIAnswer {
    switch outcome {
    case .recorded(let id), .repeated(let id):
      guard let entry = try store.adjustment(id) else { throw Problem.internalError }
      try transaction.audit(
        AuditedChange(
          action, "adjustment", id, customerID: entry.customer?.string,
          after: String(decoding: Resource(columns, row(entry)).bytes, as: UTF8.self)),
        status: 201)
      return .json(
        status: .created,
        Resource(columns, row(entry), quotesQuantities: quotesQuantities).bytes)
    case .idempotencyMismatch:
      throw Problem(
        .unprocessableContent, "idempotency_mismatch", "The key belongs to another adjustment.")
    case .notAPeriodStart(let day):
      throw Problem.badParameter(
        "applies_to_period_start",
        "No period of the license begins then. The period that contains the day begins at "
          + "\(day)T00:00:00Z.")
    case .notBegun:
      throw Problem.badParameter("applies_to_period_start", "The period has not begun yet.")
    case .beforeFirstPeriod(let day):
      throw Problem.badParameter(
        "applies_to_period_start",
        "The license has no usage in that period, and its first period begins at \(day)T00:00:00Z.")
    case .unknownLicense: throw Problem.notFound("license")
    case .unknownAdjustment: throw Problem.notFound("adjustment")
    case .alreadyReversed:
      throw Problem.conflict("already_reversed", "The adjustment already has a counter-entry.")
    case .stillOpen:
      throw Problem.conflict(
        "still_open",
        "A late adjustment grows until the period that it is invoiced with is closed. "
          + "Reverse it after that.")
    }
  }
}
