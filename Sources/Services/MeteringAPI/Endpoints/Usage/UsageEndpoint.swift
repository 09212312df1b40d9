import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore
import ServiceRuntime

/// `GET /v1/usage`
enum UsageEndpoint {
  static func routes(_ context: APIContext) -> [Route] {
    [.get("/v1/usage", .usageRead) { try await answer($0) }]
  }

  private static func answer(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let now = try await timeOfFirstPage(request, fields) ?? WallClock.milliseconds
    // A range that is given by its bounds does not move, so its cursors need no time.
    let pinned = fields.all.contains { $0.name == "range" } ? String(now) : ""
    let parameters = try await parameters(&fields, now: now, request)
    if request.wantsCSV(parameters.list.format) { return try await csv(parameters, request) }
    let shape = UsageShape(parameters)
    if parameters.question.top != nil {
      return try await topAnswer(parameters, shape, request)
    }
    return try await request.list(
      parameters.list, "usage", columns: shape.columns, atOnce: parameters.isReadAtOnce
    ) { connection, start in
      let page = try shape.page(
        UsageStore(connection), after: try start.after.map(UsageStore.Key.init(cursor:)),
        limit: start.limit + 1)
      let shown = page.rows.prefix(start.limit)
      let members = shape.members(page, rows: shown)
      let last = page.rows.count > start.limit ? shown.last : nil
      return ListPage(
        rows: shown.map(shape.cells),
        next: last.map { parameters.question.key(of: $0).cursor + [pinned] },
        members: members.fixed, volatile: members.volatile, validator: members.validator)
    }
  }

  private static func parameters(
    _ fields: inout Fields, now: Int64, _ request: APIRequest
  ) async throws -> UsageParameters {
    var parameters = try UsageParameters(&fields, now: now, caller: request.caller)
    let question = parameters.question
    try await checkLicenses(question, request)
    if parameters.needsSharedPeriod {
      try parameters.setSharedPeriod(
        among: try await request.context.database.readOnce(for: request.caller.customerID) {
          try UsageStore($0).periods(question)
        })
    }
    return parameters
  }

  /// All pages of a named range use the range as it was at the first page.
  private static func timeOfFirstPage(_ request: APIRequest, _ fields: Fields) async throws
    -> Int64?
  {
    guard let cursor = fields.all.first(where: { $0.name == "cursor" })?.value, !cursor.isEmpty
    else { return nil }
    return try await request.context.cursorSigner().read(cursor, scope: request.cursorScope)?
      .last.flatMap { Int64($0) }
  }

  /// The largest groups have no further pages, because their order changes while counts grow.
  private static func topAnswer(
    _ parameters: UsageParameters, _ shape: UsageShape, _ request: APIRequest
  ) async throws -> APIAnswer {
    if parameters.list.cursor != nil {
      throw Problem.badParameter(
        "cursor", "It cannot be used with top, because that answer has one page.")
    }
    let most = parameters.list.limit ?? 10_000
    let tooLarge = Problem.badParameter(
      parameters.list.limit == nil ? "top" : "limit",
      "The answer has one page, and it has more than \(most) rows. "
        + "Take fewer groups, a longer window or a higher limit.")
    let page = try await request.read { connection in
      let page = try shape.page(UsageStore(connection), after: nil, limit: most + 1)
      guard page.rows.count <= most else { throw tooLarge }
      let members = shape.members(page, rows: page.rows[...])
      return ListPage(
        rows: page.rows.map(shape.cells), next: nil, members: members.fixed,
        volatile: members.volatile, validator: members.validator)
    }
    return APIRequest.json(
      page, columns: shape.columns, next: nil,
      quotesQuantities: parameters.list.quotesQuantities)
  }

  /// A customer's token gets 404 for licenses of other customers.
  private static func checkLicenses(
    _ question: UsageStore.Question, _ request: APIRequest
  ) async throws {
    guard let own = request.caller.customerID, !question.licenses.isEmpty else { return }
    let licenses = question.licenses
    let found = try await request.read { try UsageStore($0).customers(of: licenses) }
    let owned = Set(found.filter { $0.customer == own }.map(\.license))
    if !Set(licenses).isSubset(of: owned) { throw Problem.notFound("license") }
  }

  private static func csv(
    _ parameters: UsageParameters, _ request: APIRequest
  ) async throws -> APIAnswer {
    if parameters.list.cursor != nil {
      throw Problem.badParameter("cursor", "A CSV has no pages. Leave out the cursor.")
    }
    let shape = UsageShape(parameters)
    let database = request.context.database
    // Every refusal must happen before the answer begins.
    try await request.read { try shape.check(UsageStore($0)) }
    let question = parameters.question
    let limit = parameters.list.limit ?? .max
    let place = try database.snapshotPlace(for: request.caller.customerID)
    return APIAnswer(
      type: "text/csv; charset=utf-8; header=present",
      headers: [.contentDisposition: "attachment; filename=\"usage.csv\""]
    ) { writer in
      try await database.snapshot(place) { snapshot in
        try await snapshot.read { try UsageStore($0).open(question) }
        try await writer.write(CSVText.header(shape.columns))
        var left = limit
        while left > 0 {
          let wanted = min(left, csvRows)
          let (bytes, count) = try await snapshot.read { connection in
            var bytes: [UInt8] = []
            let rows = try UsageStore(connection).nextRows(wanted)
            for row in rows { CSVText.append(shape.cells(row), to: &bytes) }
            return (bytes, rows.count)
          }
          try await writer.write(bytes)
          left -= count
          if count < wanted { break }
        }
      }
    }
  }

  private static let csvRows = 5_000
}

/// The columns and members of an answer.
struct UsageShape: Sendable {
  let columns: [String]
  private let parameters: UsageParameters

  init(_ parameters: UsageParameters) {
    self.parameters = parameters
    let question = parameters.question
    var columns: [String] = []
    if let dimension = question.dimension {
      columns.append(dimension.rawValue)
    } else {
      if question.byLicense { columns.append("license_id") }
      if question.byLicense || question.byCustomer { columns.append("customer_id") }
      if question.byMeter { columns.append("meter") }
    }
    columns += ["window_start", "window_end", "quantity", "event_count"]
    if parameters.comparesPrevious { columns.append("previous_quantity") }
    self.columns = columns
  }

  /// - Throws: 400 if minutes that are needed have been deleted.
  func check(_ store: UsageStore) throws {
    guard let times = parameters.times else { return }
    guard try store.hasMinutes(parameters.question, times.plan.minutes) else {
      throw Problem.minutesGone(times)
    }
  }

  /// - Throws: 400 if minutes that are needed have been deleted.
  func page(
    _ store: UsageStore, after: UsageStore.Key?, limit: Int
  ) throws -> UsageStore.Page {
    let page = try store.page(
      parameters.question, minutes: parameters.times?.plan.minutes ?? [], after: after,
      limit: limit)
    if !page.hasMinutes, let times = parameters.times { throw Problem.minutesGone(times) }
    return page
  }

  func cells(_ row: UsageStore.Row) -> [Cell] {
    let question = parameters.question
    var cells: [Cell] = []
    cells.reserveCapacity(columns.count)
    if question.dimension != nil {
      cells.append(.optional(row.value))
    } else {
      if question.byLicense { cells.append(.optional(row.license)) }
      if question.byLicense || question.byCustomer { cells.append(.optional(row.customer)) }
      if question.byMeter { cells.append(.optional(row.meter)) }
    }
    let window = window(row)
    cells.append(.time(window.from * 1_000))
    cells.append(.time(window.to * 1_000))
    cells.append(.quantity(row.quantity))
    cells.append(.integer(row.eventCount))
    if parameters.comparesPrevious { cells.append(.quantity(row.previous)) }
    return cells
  }

  /// The window of a row in seconds since 1970.
  private func window(_ row: UsageStore.Row) -> (from: Int64, to: Int64) {
    guard let times = parameters.times else { return (row.window * 86_400, row.periodEnd * 86_400) }
    if times.window == .period {
      return (max(row.window * 86_400, times.from), min(row.periodEnd * 86_400, times.to))
    }
    let index = Int(row.window)
    guard index >= 0, index + 1 < times.bounds.count else { return (times.from, times.to) }
    return (times.bounds[index], times.bounds[index + 1])
  }

  func members(
    _ page: UsageStore.Page, rows: ArraySlice<UsageStore.Row>
  ) -> (
    fixed: [(name: String, cell: Cell)], volatile: [(name: String, cell: Cell)], validator: String
  ) {
    let standing = page.standing
    let windows = rows.map(window)
    let from = parameters.times?.from ?? windows.map(\.from).min()
    let to = parameters.times?.to ?? windows.map(\.to).max()
    return (
      [
        ("from", .optionalTime(from.map { $0 * 1_000 })),
        ("to", .optionalTime(to.map { $0 * 1_000 })),
        ("time_zone", .text(parameters.zone.name)),
        ("missing", .integer(standing.missing)),
      ],
      [
        ("as_of", .time(standing.asOf)),
        ("complete_through", .optionalTime(standing.completeThrough)),
      ],
      // Once everything up to the end of the range is counted, later progress does not change the
      // answer.
      standing.completeThrough.map { String(min($0, to.map { $0 * 1_000 } ?? $0)) } ?? ""
    )
  }
}

extension UsageStore.Key {
  /// The texts of the group, then the window. The endpoint appends the time of the first page.
  var cursor: [String] { group + [String(window)] }

  init(cursor: [String]) throws {
    guard let window = cursor.dropLast().last.flatMap({ Int64($0) }) else {
      throw Problem.badCursor
    }
    self.init(group: Array(cursor.dropLast(2)), window: window)
  }
}
