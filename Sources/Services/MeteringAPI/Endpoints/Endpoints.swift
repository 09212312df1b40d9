/// Every operation of the API and every page.
enum Endpoints {
  static func all(_ context: APIContext) -> [Route] {
    let operations: [Route] = [
      StatusEndpoint.routes(context),
      Documents.routes(context),
      UsageEndpoint.routes(context),
      CurrentUsageEndpoint.routes(context),
      UsageEventsEndpoint.routes(context),
      administration(context),
      PeriodEndpoints.routes(context),
      AdjustmentEndpoints.routes(context),
      StatementEndpoints.routes(context),
      ExportEndpoints.routes(context),
    ].flatMap { $0 }
    return operations + Pages.routes(operations)
  }

  /// The operations on customers, licenses, access, webhooks and dead letters.
  private static func administration(_ context: APIContext) -> [Route] {
    CustomerEndpoints.routes(context) + LicenseEndpoints.routes(context)
      + TokenEndpoints.routes(context) + AuditEndpoints.routes(context)
      + PortalSessionEndpoints.routes(context) + AlertEndpoints.routes(context)
      + WebhookEndpoints.routes(context) + DeliveryEndpoints.routes(context)
      + DeadLetterEndpoints.routes(context) + UnregisteredEndpoint.routes(context)
      + ProjectedOverageEndpoint.routes(context)
  }
}
