import HTTPTypes
import Metering

/// One operation of the API.
///
/// To add an endpoint:
/// 1. Write its rules in `Core/Billing` (values) and its SQL in a store of `IO/PostgresStore/Billing`.
/// 2. Add a file to `Endpoints/` with an enum that has `static func routes(_ context: APIContext) ->
///    [Route]`, and name it in `Endpoints.all`.
/// 3. In the handler read the parameters with `request.query` or `request.body`, finish them, and
///    answer inside of `request.read` or `request.write`; lists are answered by `request.list`.
/// 4. Describe it in `openapi.yaml`.
struct Route: Sendable {
  typealias Handler = @Sendable (APIRequest) async throws -> APIAnswer

  enum Access: Sendable {
    /// Anybody may use it.
    case open
    /// It needs a token with the scope. A token that is bound to a customer is let in as well, and
    /// the handler must show it only that customer's data (`request.caller.customerID`,
    /// `request.requireCustomer`).
    case token(TokenScope)
    /// The handler checks access itself, as pages do with their sessions. `request.caller` is
    /// nobody.
    case own
  }

  let method: HTTPRequest.Method
  /// The template of the path, such as `/v1/licenses/{id}`. A parameter stands for one whole
  /// segment.
  let path: String
  let access: Access
  let handler: Handler

  init(
    _ method: HTTPRequest.Method, _ path: String, _ access: Access,
    _ handler: @escaping Handler
  ) {
    self.method = method
    self.path = path
    self.access = access
    self.handler = handler
  }

  static func get(_ path: String, _ scope: TokenScope, _ handler: @escaping Handler) -> Route {
    Route(.get, path, .token(scope), handler)
  }

  static func post(_ path: String, _ scope: TokenScope, _ handler: @escaping Handler) -> Route {
    Route(.post, path, .token(scope), handler)
  }

  static func patch(_ path: String, _ scope: TokenScope, _ handler: @escaping Handler) -> Route {
    Route(.patch, path, .token(scope), handler)
  }

  static func delete(_ path: String, _ scope: TokenScope, _ handler: @escaping Handler) -> Route {
    Route(.delete, path, .token(scope), handler)
  }
}
