/// Every operation of the API and every page.
enum Endpoints {
  static func all(_ context: APIContext) -> [Route] {
    StatusEndpoint.routes(context) + Documents.routes(context)
  }
}
