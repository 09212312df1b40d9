import Foundation
import HTTPTypes
import JSONText
import Metering

/// How pages read and change things: by the operations of the API, called within the process.
///
/// A page so shows exactly what the API answers to the same reader, with the same rules, scopes and
/// audit rows, and there is no second implementation of anything.
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

  /// - Parameter path: percent-encoded.
  /// - Throws: `Problem`, as the operation answers it.
  func get(_ path: String, _ parameters: [Parameter] = []) async throws -> PageData {
    try await call(.get, path, parameters, body: [], key: nil)
  }

  /// Nil for what the reader may not see and for what is not there.
  func getIfAllowed(_ path: String, _ parameters: [Parameter] = []) async throws -> PageData? {
    do {
      return try await get(path, parameters)
    } catch let problem as Problem
      where [.forbidden, .notFound, .methodNotAllowed].contains(problem.status)
    {
      return nil
    }
  }

  /// - Parameter key: one that was sent before gets the same answer again.
  func send(
    _ method: HTTPRequest.Method, _ path: String, key: String? = nil,
    _ body: (inout JSONWriter) -> Void = { _ in }
  ) async throws -> PageData {
    var json = JSONWriter()
    json.beginObject()
    body(&json)
    json.endObject()
    // What takes no body refuses even an empty object's members, and takes no bytes as none.
    let bytes = json.bytes.count == 2 ? [] : json.bytes
    return try await call(method, path, [], body: bytes, key: key)
  }

  /// Answers an operation as it is, such as a CSV.
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
