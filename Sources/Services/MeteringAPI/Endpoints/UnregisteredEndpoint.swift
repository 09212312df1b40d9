import Billing
import Metering
import PostgresStore

/// `GET /v1/usage/unregistered` shows usage of licenses that nobody registered. It is counted and
/// billed to nobody. Only the vendor sees it, because it belongs to no customer.
enum UnregisteredEndpoint {
  static let columns = [
    "license_id", "meter", "quantity", "event_count", "first_day", "last_day",
  ]

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/usage/unregistered", .usageRead) { request in
        try request.caller.requireVendor()
        var fields = try request.query
        let window = fields.listWindow()
        let from = day("from", &fields)
        let to = day("to", &fields)
        try fields.finish()
        return try await request.list(window, "unregistered-usage", columns: columns) {
          connection, start in
          // A page ends with the last meter of a license, so it may hold more rows than its limit
          // of licenses.
          let page = try UnregisteredStore(connection).page(
            after: start.after?.first, limit: start.limit, from: from, to: to)
          return ListPage(
            rows: page.rows.map(cells),
            next: page.remaining > 0 ? page.rows.last.map { [$0.license] } : nil,
            members: [("licenses", .integer(page.licenses))])
        }
      }
    ]
  }

  private static func cells(_ row: UnregisteredStore.Row) -> [Cell] {
    [
      .text(row.license), .text(row.meter),
      Int64(row.quantity).map { .quantity($0) } ?? .text(row.quantity),
      .integer(row.eventCount), .text(row.firstDay), .text(row.lastDay),
    ]
  }

  /// Reads the beginning of a day, because usage is added up by whole days.
  private static func day(_ name: String, _ fields: inout Fields) -> String? {
    guard let time = fields.time(name) else { return nil }
    guard time % 86_400_000 == 0 else {
      fields.blame(name, "It must be the beginning of a day in UTC, such as 2026-11-01T00:00:00Z.")
      return nil
    }
    return UTCTime.day(time)
  }
}
