/// Every operation of the API and every page.
enum Endpoints {
  static func all(_ context: APIContext) -> [Route] {
    let operations = StatusEndpoint.routes(context) + Documents.routes(context)
    return operations + Pages.routes(operations)
  }
}
