import Billing
import HTTPTypes
import JSONText
import Licensing
import Metering
import PostgresStore

/// `/v1/customers/{id}/statements` shows what a customer used in the periods that end in a month.
enum StatementEndpoints {
  static func routes(_ context: APIContext) -> [Route] {
    let signer = context.settings.keys.flatMap { StatementSigner(keys: $0) }
    return [
      .get("/v1/customers/{customer_id}/statements", .billingRead) { try await list($0) },
      .get("/v1/customers/{customer_id}/statements/{month}", .billingRead) {
        try await show($0, signer)
      },
    ]
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    let customer = try request.parameter("customer_id")
    try request.caller.requireCustomer(customer)
    var fields = try request.query
    let window = fields.listWindow()
    try fields.finish()
    // This is checked before a CSV begins, because an answer that has begun can only be cut off.
    guard try await request.read({ try StatementStore($0).knows(customer) }) else {
      throw Problem.notFound("customer")
    }
    let columns = ["month", "status", "periods", "open_periods", "closed_at"]
    return try await request.list(window, "statements", columns: columns) { connection, start in
      let store = StatementStore(connection)
      let found = try store.months(
        customer: customer, before: start.after?.first, limit: start.limit + 1)
      let rows: [[Cell]] = found.map { month in
        [
          .text(month.month), .text(month.isClosed ? "closed" : "open"), .integer(month.periods),
          .integer(month.openPeriods), .optionalTime(month.closedAt),
        ]
      }
      return ListPage(rows, start) { row in
        if case .text(let month) = row[0] { [month] } else { [] }
      }
    }
  }

  private static func show(
    _ request: APIRequest, _ signer: StatementSigner?
  ) async throws -> APIAnswer {
    let customer = try request.parameter("customer_id")
    try request.caller.requireCustomer(customer)
    let month = try request.parameter("month").string
    guard month.utf8.count == 7, UTCTime.isDay(month + "-01"), month.utf8.first != 0x30 else {
      throw Problem(.notFound, "not_found", "A month is written as 2026-11.")
    }
    var fields = try request.query
    let format: ListWindow.Format? = fields.choice("format")
    let quotes = fields.choice("numbers", of: ["string", "number"]) == "string"
    try fields.finish()
    let document = try await request.read {
      try StatementStore($0).document(customer: customer, month: month)
    }
    let base = request.context.settings.basePath
    guard let statement = document.flatMap({ Statement(document: $0, basePath: base) }) else {
      throw Problem.notFound("customer")
    }
    if request.wantsCSV(format) {
      var bytes = CSVText.header(Statement.columns)
      for row in statement.rows { CSVText.append(row, to: &bytes) }
      return APIAnswer(
        type: "text/csv; charset=utf-8; header=present",
        headers: [.contentDisposition: "attachment; filename=\"statement-\(month).csv\""],
        bytes: bytes)
    }
    let signature = statement.isClosed ? signer?.sign(statement.canonicalJSON) : nil
    let json = statement.json(signature: signature, quotesQuantities: quotes)
    var answer = APIAnswer.json(json)
    // Two signatures of the same document differ, so the tag leaves out the signature.
    answer.headers[.eTag] = ETag.of(statement.json(signature: nil, quotesQuantities: quotes))
    return answer
  }
}
