import BillingPages
import HTTPTypes
import Metering

/// Every page of the vendor and of the portal, with the files that they load.
enum Pages {
  /// - Parameter operations: the operations of the API that the pages call.
  static func routes(_ operations: [Route]) -> [Route] {
    let router = Router(operations)
    let vendor = PageHandling(router: router, kind: .vendor)
    let portal = PageHandling(router: router, kind: .portal)
    let own =
      OverviewPages.routes(vendor) + LicensePages.routes(vendor) + CustomerPages.routes(vendor)
      + PeriodPages.routes(vendor) + AlertPages.routes(vendor) + WebhookPages.routes(vendor)
    let rest =
      CSVPages.routes(vendor, operations) + EventPages.routes(vendor) + SearchPages.routes(vendor)
      + AdminPages.routes(vendor)
      + SignInPages.routes
    let customers =
      PortalPages.routes(portal) + LicensePages.routes(portal) + AlertPages.routes(portal)
      + WebhookPages.routes(portal)
    return own + rest + customers + [assets]
  }

  /// The files that pages load. They change only with the program, and browsers ask whether they
  /// did.
  private static let assets = Route(.get, "/assets/{name}", .open) { request in
    guard let asset = PageAsset.named(try request.parameter("name").string) else {
      throw Problem.notFound
    }
    return APIAnswer(
      type: asset.contentType, headers: [.cacheControl: "public, max-age=300"], bytes: asset.bytes)
  }
}
