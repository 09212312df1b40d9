import Administration
import Billing
import Metering
import PostgresStore

/// `GET /v1/usage/projected-overages` lists licenses that will probably exceed a limit before their
/// period ends.
enum ProjectedOverageEndpoint {
  static let columns = [
    "license_id", "customer_id", "meter", "period_start", "period_end", "used", "limit",
    "projected_quantity", "projected_low", "projected_high", "projected_overage",
  ]

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/usage/projected-overages", .usageRead) { request in
        var fields = try request.query
        let window = fields.listWindow()
        let asked = fields.identifier("customer_id")
        try fields.finish()
        if let asked { try request.caller.requireCustomer(asked) }
        let customer = (asked ?? request.caller.customerID)?.string
        return try await request.list(window, "projected-overages", columns: columns) {
          connection, start in
          let found = try ProjectedOverage.list(
            connection, customer: customer, after: start.after.flatMap(Self.place),
            limit: start.limit + 1)
          let shown = found.prefix(start.limit)
          return ListPage(
            rows: shown.map(cells),
            next: found.count > shown.count ? shown.last.map { Self.key($0.place) } : nil)
        }
      }
    ]
  }

  private static func key(_ place: ProjectedOverage.Place) -> [String] {
    [String(place.overage), place.licenseID.string, place.meter.string]
  }

  private static func place(_ key: [String]) -> ProjectedOverage.Place? {
    guard key.count == 3, let overage = Int64(key[0]) else { return nil }
    return ProjectedOverage.Place(
      overage: overage, licenseID: Identifier(key[1]), meter: Identifier(key[2]))
  }

  private static func cells(_ row: ProjectedOverage) -> [Cell] {
    [
      .text(row.licenseID.string), .text(row.customerID.string), .text(row.meter.string),
      .time(row.periodStart * 86_400_000), .time(row.periodEnd * 86_400_000),
      .quantity(row.used), .quantity(row.limit), .quantity(row.quantity), .quantity(row.low),
      .quantity(row.high), .quantity(row.overage),
    ]
  }
}
