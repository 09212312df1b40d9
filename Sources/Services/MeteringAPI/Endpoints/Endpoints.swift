/// Every operation of the API and every page.
enum Endpoints {
  static func all(_ context: APIContext) -> [Route] {
    let operations: [Route] = [
      StatusEndpoint.routes(context),
      Documents.routes(context),
      UsageEndpoint.routes(context),
      CurrentUsageEndpoint.routes(context),
    ].flatMap { $0 }
    return operations + Pages.routes(operations)
  }
}
