import Administration
import Billing
import HTTPTypes
import Metering
import PostgresStore

/// `/v1/licenses`, except for the usage of licenses.
enum LicenseEndpoints {
  static let columns = [
    "license_id", "customer_id", "plan", "status", "features", "domains", "limits", "trial",
    "overage_policy", "alert_thresholds", "billing_anchor_day", "billing_anchors", "issued_at",
    "expires_at", "created_at", "updated_at",
  ]

  static func cells(_ license: LicenseReads.Record) -> [Cell] {
    [
      .text(license.licenseID.string), .text(license.customerID.string), .text(license.plan),
      .text(license.status), .document(license.features), .document(license.domains),
      .document(license.limits) { _ in true }, .boolean(license.isTrial),
      .text(license.overagePolicy),
      .document(license.alertThresholds), .integer(license.billingAnchorDay),
      .document(license.billingAnchors), .time(license.issuedAt), .time(license.expiresAt),
      .time(license.createdAt), .time(license.updatedAt),
    ]
  }

  static func resource(
    _ license: LicenseReads.Record, quotesQuantities: Bool = false
  ) -> Resource {
    Resource(columns, cells(license), quotesQuantities: quotesQuantities)
  }

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/licenses", .licensesRead) { try await list($0) },
      .get("/v1/licenses/{id}", .licensesRead) { request in
        let quotes = try request.finishQuery()
        let id = try request.id()
        let found = try await request.read { try LicenseReads($0).license(id) }
        guard let found else { throw Problem.notFound }
        try request.caller.requireCustomer(found.customerID)
        return resource(found, quotesQuantities: quotes).answer()
      },
      .post("/v1/licenses", .licensesWrite) { request in
        let (body, quotes) = (try request.jsonValue, try request.finishQuery())
        return try await request.administer { administrator in
          let made = try administrator.createLicense(body)
          return resource(made, quotesQuantities: quotes).answer(
            status: .created,
            location: "/v1/licenses/" + PathSegment.encode(made.licenseID.string))
        }
      },
      .patch("/v1/licenses/{id}", .licensesWrite) { request in
        let (id, body) = (try request.id(), try request.jsonValue)
        let quotes = try request.finishQuery()
        return try await request.administer { administrator in
          let changed = try administrator.updateLicense(id, patch: body) {
            request.isExpected(resource($0))
          }
          return resource(changed.license, quotesQuantities: quotes).answer()
        }
      },
      .post("/v1/licenses/{id}/token", .licensesWrite) { request in
        let id = try request.id()
        try request.finishBody()
        let keys = request.context.settings.keys
        return try await request.administer { administrator in
          let token = try administrator.issueLicense(id, keys: keys)
          return Resource(["license_id", "token"], [.text(id), .text(token)])
            .secretAnswer(status: .ok)
        }
      },
    ]
      + Administrator.LicenseStep.allCases.map { step in
        .post("/v1/licenses/{id}/\(step.rawValue)", .licensesWrite) { request in
          let (id, quotes) = (try request.id(), try request.finishQuery())
          try request.finishBody()
          return try await request.administer { administrator in
            resource(
              try administrator.setLicense(id, step) { request.isExpected(resource($0)) },
              quotesQuantities: quotes
            ).answer()
          }
        }
      }
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    var fields = try request.query
    let window = fields.listWindow()
    var filter = LicenseReads.Filter()
    filter.customer = fields.identifier("customer_id")?.string
    filter.status = fields.choice("status", of: ["active", "suspended", "canceled"])
    filter.plan = fields.text("plan", atMost: 256)
    filter.domain = fields.text("domain", atMost: 256)?.lowercased()
    filter.search = fields.text("search", atMost: 512)
    try fields.finish()
    if let own = request.caller.customerID {
      try request.caller.requireCustomer(filter.customer.map(Identifier.init(_:)) ?? own)
      filter.customer = own.string
    }
    let chosen = filter
    return try await request.list(window, "licenses", columns: columns) { connection, start in
      let found = try LicenseReads(connection).list(
        chosen, after: start.after?.first, limit: start.limit + 1)
      return ListPage(found.map(cells), start) { [$0[0].key] }
    }
  }
}
