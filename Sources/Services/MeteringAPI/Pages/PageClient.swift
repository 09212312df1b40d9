import Foundation
import HTTPTypes
import JSONText
import Metering

/// Lets pages read and change things through the operations of the API, which it calls within the
/// process.
///
/// So a page shows exactly what the API answers to the same reader. The rules, scopes and audit
/// rows are the same, and nothing is implemented twice.
struct PageClient: Sendable {
  private let router: Router
  private let request: APIRequest
  private let caller: Caller

  init(router: Router, request: APIRequest, caller: Caller) {
    self.router = router
    self.request = request
    self.caller = caller
  }

  typealias Parameter = (name: String, value: String)

  /// - Parameter path: the percent-encoded path of the operation.
  /// - Throws: the `Problem` that the operation answers.
  func get(_ path: String, _ parameters: [Parameter] = []) async throws -> PageData {
    try await call(.get, path, parameters, body: [], key: nil)
  }

  /// Returns nil for what the reader may not see and for what does not exist.
  func getIfAllowed(_ path: String, _ parameters: [Parameter] = []) async throws -> PageData? {
    do {
      return try await get(path, parameters)
    } catch let problem as Problem
      where [.forbidden, .notFound, .methodNotAllowed].contains(problem.status)
    {
      return nil
    }
  }

  /// - Parameter key: the idempotency key. A key that was sent before gets the same answer again.
  func send(
    _ method: HTTPRequest.Method, _ path: String, key: String? = nil,
    _ body: (inout JSONWriter) -> Void = { _ in }
  ) async throws -> PageData {
    var json = JSONWriter()
    json.beginObject()
    body(&json)
    json.endObject()
    // An operation without a body accepts only an empty one.
    let bytes = json.bytes.count == 2 ? [] : json.bytes
    return try await call(method, path, [], body: bytes, key: key)
  }

  /// Passes on the answer of an operation, such as a CSV.
  func answer(_ path: String, _ parameters: [Parameter]) async throws -> APIAnswer {
    try await run(.get, path, parameters, body: [], key: nil)
  }

  private func call(
    _ method: HTTPRequest.Method, _ path: String, _ parameters: [Parameter], body: [UInt8],
    key: String?
  ) async throws -> PageData {
    let answer = try await run(method, path, parameters, body: body, key: key)
    guard case .bytes(let bytes) = answer.body else {
      throw Problem.internalError
    }
    return PageData(bytes.isEmpty ? nil : try JSONReader.parse(bytes))
  }

  private func run(
    _ method: HTTPRequest.Method, _ path: String, _ parameters: [Parameter], body: [UInt8],
    key: String?
  ) async throws -> APIAnswer {
    guard case .route(let route, let values) = router.find(method, path[...]) else {
      throw Problem.notFound
    }
    if case .token(let scope) = route.access { try caller.require(scope) }
    var headers = HTTPFields()
    headers[.userAgent] = request.headers[.userAgent]
    if !body.isEmpty {
      headers[.contentType] =
        method == .patch ? "application/merge-patch+json" : "application/json"
    }
    if let key, let name = HTTPField.Name("Idempotency-Key") { headers[name] = key }
    return try await route.handler(
      APIRequest(
        route: route, parameters: values, queryText: Self.text(parameters), headers: headers,
        body: body, id: request.id, address: request.address,
        authority: request.authority, caller: caller,
        context: request.context))
  }

  private static func text(_ parameters: [Parameter]) -> String {
    parameters.map { "\(PercentEncoding.encode($0.name))=\(PercentEncoding.encode($0.value))" }
      .joined(separator: "&")
  }
}
