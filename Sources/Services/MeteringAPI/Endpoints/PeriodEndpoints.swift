import Administration
import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore
import ServiceRuntime

/// `/v1/periods` lists open, due and closed periods, previews a close, and closes periods.
enum PeriodEndpoints {
  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/periods", .billingRead) { try await list($0) },
      .get("/v1/periods/close-preview", .billingRead) { try await preview($0) },
      .post("/v1/periods/close", .billingWrite) { try await close($0) },
      .post("/v1/periods/{period_id}/close", .billingWrite) { try await closeOne($0) },
    ]
  }

  // MARK: Reading

  private static let columns = [
    "period_id", "license_id", "customer_id", "meter", "period_start", "period_end", "status",
    "quantity", "event_count", "closed_at", "included", "overage", "late_quantity",
    "late_event_count",
  ]

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    var filter = PeriodStore.Filter(
      status: fields.choice("status"), customer: fields.identifier("customer_id"),
      license: fields.identifier("license_id"),
      endingBefore: fields.day("ending_before"),
      graceSeconds: Int64(request.context.settings.closeGraceMilliseconds / 1_000))
    try fields.finish()
    if let own = request.caller.customerID {
      try request.caller.requireCustomer(filter.customer ?? own)
      filter.customer = own
    }
    let wanted = filter
    return try await request.list(window, "periods", columns: columns, atOnce: true) {
      connection, start in
      let found = try PeriodStore(connection).periods(
        wanted, after: start.after.flatMap { PeriodID($0.first ?? "") }, limit: start.limit + 1)
      return ListPage(found.map(row), start) { row in
        if case .text(let id) = row[0] { [id] } else { [] }
      }
    }
  }

  private static func row(_ period: PeriodStore.Period) -> [Cell] {
    [
      .text(period.id.text), .text(period.license.string), .optional(period.customer?.string),
      .text(period.meter), .time(period.start), .time(period.end), .text(period.status.rawValue),
      .quantity(period.quantity), .integer(period.eventCount), .optionalTime(period.closedAt),
      .optionalQuantity(period.included), .optionalQuantity(period.overage),
      .quantity(period.lateQuantity), .integer(period.lateEventCount),
    ]
  }

  private static func preview(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    var fields = try request.query
    let endingBefore = fields.day("ending_before")
    let customer = fields.identifier("customer_id")
    if endingBefore == nil { fields.blameMissing("ending_before") }
    let quotes = fields.choice("numbers", of: ["string", "number"]) == "string"
    try fields.finish()
    try await requireKnown(customer, request)
    let question = question(request, endingBefore ?? "", customer)
    let preview = try await ClosePreview.settled(request, question, within: previewPatience)
    return APIAnswer.object { preview.write(to: &$0, quotesQuantities: quotes) }
  }

  private static func question(
    _ request: APIRequest, _ endingBefore: String, _ customer: Identifier?
  ) -> ClosePreviewStore.Question {
    ClosePreviewStore.Question(
      endingBefore: endingBefore, customer: customer,
      graceSeconds: Int64(request.context.settings.closeGraceMilliseconds / 1_000),
      completeThrough: nil,
      needsLog: request.context.settings.kafkaBrokers != nil)
  }

  // MARK: Closing

  /// How long a preview waits for events that are under way. A close waits longer.
  private static let previewPatience = Duration.seconds(2)
  private static let closePatience = Duration.seconds(20)

  /// The close that a body asks for.
  private struct Wanted: Sendable {
    var endingBefore: String
    var customer: Identifier?
    var isForced: Bool
    var reason: String?
  }

  private static func close(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    try request.finishQuery()
    var json = try request.json
    let endingBefore = json.required("ending_before", json.day("ending_before"))
    let customer = json.identifier("customer_id")
    let (isForced, reason) = force(&json)
    try json.finish()
    if let earlier = try await request.earlierAnswer() { return earlier }
    try await requireKnown(customer, request)
    let wanted = Wanted(
      endingBefore: endingBefore ?? "", customer: customer, isForced: isForced, reason: reason)
    let preview = try await blockers(request, wanted)
    let closing = closing(request, wanted, preview)
    let database = request.context.database
    let audit = request.auditContext
    let close = try await database.write {
      try Administrator($0, by: audit).beginClose(closing)
    }
    var (after, closed): (String?, Int64) = ("", 0)
    while let next = after {
      let batch = try await database.write {
        try PeriodStore($0).closeNext(
          close, after: next, closing, most: PeriodStore.licensesInABatch)
      }
      (after, closed) = (batch.last, closed + batch.closed)
    }
    let all = closed
    return try await request.write { transaction in
      answer(
        try Administrator(transaction.connection, by: audit).finishClose(
          close, closed: all, closing))
    }
  }

  private static func closeOne(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    try request.finishQuery()
    var json = try request.json
    let (isForced, reason) = force(&json)
    try json.finish()
    guard let period = PeriodID(try request.parameter("period_id").string) else {
      throw Problem.notFound("period")
    }
    let known = try await request.read { connection in
      try PeriodStore(connection).period(period)
    }
    guard let known else { throw Problem.notFound("period") }
    // Force does not help against this, so no answer may offer it.
    guard known.end <= WallClock.milliseconds else { throw notEnded(known) }
    let wanted = Wanted(
      endingBefore: UTCTime.day(known.end), customer: nil, isForced: isForced,
      reason: reason)
    let preview =
      known.status == .closed
      ? ClosePreview() : try await blockers(request, wanted, only: known)
    let closing = closing(request, wanted, preview)
    let audit = request.auditContext
    return try await request.write { transaction in
      let (outcome, result) = try Administrator(transaction.connection, by: audit)
        .closeOne(known, closing)
      switch outcome {
      case .noPeriod: throw Problem.notFound("period")
      case .notEnded: throw notEnded(known)
      case .closed, .alreadyClosed: return answer(result)
      }
    }
  }

  private static func notEnded(_ period: PeriodStore.Period) -> Problem {
    Problem.conflict(
      "not_ended", "The period ends at \(TimeText.write(period.end)). Close it after that.")
  }

  /// - Throws: 404 if there is no such customer. Otherwise a typing error would look like a close of
  ///   everything.
  private static func requireKnown(
    _ customer: Identifier?, _ request: APIRequest
  ) async throws {
    guard let customer else { return }
    guard try await request.read({ try StatementStore($0).knows(customer) }) else {
      throw Problem.notFound("customer")
    }
  }

  private static func force(_ json: inout JSONFields) -> (Bool, String?) {
    let isForced = json.boolean("force") ?? false
    let reason = json.prose("reason")
    if isForced, reason == nil, json.errors.isEmpty {
      json.blame("reason", "It is required with force, and is kept in the record of the close.")
    }
    return (isForced, reason)
  }

  /// - Parameter only: the one period to close; nil for all.
  /// - Throws: 409 `not_ready` with the reasons against the close, unless it is forced.
  private static func blockers(
    _ request: APIRequest, _ wanted: Wanted, only: PeriodStore.Period? = nil
  ) async throws -> ClosePreview {
    let question = question(request, wanted.endingBefore, wanted.customer)
    let preview = try await ClosePreview.settled(
      request, question, within: closePatience, end: only?.end)
    if preview.isReady || wanted.isForced { return preview }
    throw Problem(
      .conflict, "not_ready",
      "\(preview.blockers[0].detail). Close later, or close with force and a reason.",
      members: [("blockers", ClosePreview.json(preview.blockers))])
  }

  private static func closing(
    _ request: APIRequest, _ wanted: Wanted, _ preview: ClosePreview
  ) -> PeriodStore.CloseRequest {
    PeriodStore.CloseRequest(
      endingBefore: wanted.endingBefore, customer: wanted.customer, isForced: wanted.isForced,
      reason: wanted.reason, closedBy: request.caller.name,
      blockers: String(decoding: ClosePreview.json(preview.blockers), as: UTF8.self))
  }

  private static func answer(_ result: PeriodStore.CloseResult) -> APIAnswer {
    APIAnswer.object { json in
      json.name("close_id")
      if result.closed > 0 { json.text(String(result.closeID)) } else { json.null() }
      json.member("closed", result.closed)
      json.member("already_closed", result.alreadyClosed)
    }
  }
}

extension ClosePreview {
  /// Reads a preview together with how far the usage is counted.
  ///
  /// - Parameter end: the end of the one period to close, in milliseconds since 1970; nil for all.
  static func read(
    _ connection: PostgresConnection, _ question: ClosePreviewStore.Question, end: Int64? = nil
  ) throws -> ClosePreview {
    let store = ClosePreviewStore(connection)
    var question = question
    question.completeThrough = try store.completeThrough(question)
    return try store.preview(question, onlyEnd: end)
  }

  /// Reads the preview again as long as events under way are the only reason against the close.
  ///
  /// Each producer must be seen without events under way once since the first look. They need not
  /// all be seen so in one look, because no look would find that while events flow all the time.
  static func settled(
    _ request: APIRequest, _ question: ClosePreviewStore.Question, within patience: Duration,
    end: Int64? = nil
  ) async throws -> ClosePreview {
    var question = question
    let deadline = ContinuousClock.now + patience
    while true {
      let asked = question
      let preview = try await request.read { try read($0, asked, end: end) }
      guard preview.waitsForEventsOnly, ContinuousClock.now < deadline else { return preview }
      question.inFlightBefore = preview.inFlight
      try await Task.sleep(for: .milliseconds(200))
    }
  }

  static func json(_ notices: [Notice]) -> [UInt8] {
    var json = JSONWriter()
    json.beginArray()
    for notice in notices {
      json.beginObject()
      json.member("code", notice.code)
      json.member("detail", notice.detail)
      json.endObject()
    }
    json.endArray()
    return json.bytes
  }

  func write(to json: inout JSONWriter, quotesQuantities: Bool = false) {
    // Sums over many licenses may not fit into 64 bits.
    func quantity(_ name: String, _ value: Int128) {
      json.name(name)
      if quotesQuantities { json.text(String(value)) } else { json.raw(String(value)) }
    }
    json.member("ready", cell: .boolean(isReady))
    json.member("blockers", cell: .json(Self.json(blockers)))
    json.member("warnings", cell: .json(Self.json(warnings)))
    json.member("periods", periods)
    json.name("by_meter")
    json.beginArray()
    for meter in byMeter {
      json.beginObject()
      json.member("meter", meter.meter)
      quantity("quantity", meter.quantity)
      quantity("overage", meter.overage)
      json.endObject()
    }
    json.endArray()
  }
}

extension Fields {
  /// A day such as `2026-11-01`. An RFC 3339 time stands for the UTC day in which it lies.
  mutating func day(_ name: String) -> String? {
    guard let text = text(name) else { return nil }
    if let day = DayText.read(text) { return day }
    blame(name, "It must be a day such as 2026-11-01, or a time such as 2026-11-01T00:00:00Z.")
    return nil
  }

  mutating func blameMissing(_ name: String) {
    if !errors.contains(where: { $0.parameter == name }) { blame(name, "It is required.") }
  }
}

extension JSONFields {
  /// A day such as `2026-11-01`. An RFC 3339 time stands for the UTC day in which it lies.
  mutating func day(_ name: String) -> String? {
    guard let text = text(name, atMost: 64) else { return nil }
    if let day = DayText.read(text) { return day }
    blame(name, "It must be a day such as 2026-11-01, or a time such as 2026-11-01T00:00:00Z.")
    return nil
  }
}

private enum DayText {
  static func read(_ text: String) -> String? {
    if UTCTime.isDay(text) { return text }
    return TimeText.read(text).map(UTCTime.day)
  }
}
