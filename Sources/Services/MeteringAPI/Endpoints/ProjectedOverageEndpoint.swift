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
          // Estimates change from one moment to the next, so the list has no pages.
          ListPage(
            rows: try ProjectedOverage.list(connection, customer: customer, limit: start.limit)
              .map(cells), next: nil)
        }
      }
    ]
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
