import Foundation
import HTTPListening
import HTTPTypes
import HummingbirdCore
import Logging
import Metering
import NIOCore
import PostgresStore
import ServiceRuntime
import SystemRandom

/// Turns a request's head and body into its answer.
struct API: Sendable {
  static let maximumBodyBytes = 1 << 20
  /// The largest form of a page. Anybody may send forms.
  static let maximumFormBytes = 64 << 10
  /// The total size of bodies that are not answered yet, over all requests.
  private static let heldBodyBytes = 64 << 20
  /// The part of it that one client may use.
  private static let heldBodyBytesPerClient = 8 << 20

  private let router: Router
  private let context: APIContext
  private let metrics: APIMetrics
  private let bodies = BodyBudget(
    BodyMemory(limit: API.heldBodyBytes, share: API.heldBodyBytesPerClient))

  init(routes: [Route], context: APIContext, metrics: APIMetrics) {
    router = Router(routes)
    self.context = context
    self.metrics = metrics
  }

  func respond(to request: Request, client: ClientAddress.Client) async -> APIAnswer {
    let start = Monotonic.milliseconds
    let id = Self.requestID(request.headers)
    var answer: APIAnswer
    var name = "none"
    do {
      answer = try await carryOut(request, id: id, client: client, &name)
    } catch {
      answer = Self.problem(error, id, context).answer
    }
    if request.method == .get || request.method == .head {
      answer = Conditional.apply(request.headers, answer)
    }
    // Handlers of the API know nothing of the prefix. Those of pages have put it there.
    if let place = answer.headers[.location], place.hasPrefix("/v1/") {
      answer.headers[.location] = context.settings.basePath + place
    }
    if let field = HTTPField.Name("X-Request-Id") { answer.headers[field] = id }
    if let field = HTTPField.Name("X-Content-Type-Options") { answer.headers[field] = "nosniff" }
    if answer.headers[.cacheControl] == nil { answer.headers[.cacheControl] = "private, no-cache" }
    metrics.answered(name, answer.status.code, Monotonic.milliseconds - start)
    return answer
  }

  private func carryOut(
    _ request: Request, id: String, client: ClientAddress.Client, _ name: inout String
  ) async throws -> APIAnswer {
    let target = Self.target(request.head.path ?? "/")
    let path = withoutBase(target.path)
    switch router.find(request.method, path) {
    case .nothing: throw Problem.notFound
    case .otherMethods(let methods):
      let allowed = methods.flatMap { $0 == .get ? [.get, .head] : [$0] }.map(\.rawValue)
      throw Problem(
        .methodNotAllowed, "method_not_allowed",
        "Use \(allowed.joined(separator: " or ")).",
        headers: [.allow: allowed.joined(separator: ", ")])
    case .route(let route, let parameters):
      name = "\(route.method) \(route.path)"
      var caller = Caller.nobody
      var most = Self.maximumFormBytes
      if case .token(let scope) = route.access {
        // This comes before the body is read, so that a caller without permission cannot make us
        // hold one.
        caller = try await Access.caller(
          request.headers[.authorization], context, reads: route.method == .get)
        try caller.require(scope)
        most = Self.maximumBodyBytes
      }
      // Also a write that failed may have changed a token: its COMMIT may have lost its answer.
      defer { if route.method != .get { context.tokens.forgetAll(after: caller) } }
      return try await bodies.collecting(request.body, most, of: client.group) { body in
        try await route.handler(
          APIRequest(
            route: route, parameters: parameters, queryText: String(target.query),
            headers: request.headers, body: body, id: id, address: client.text,
            authority: request.head.authority,
            caller: caller,
            context: context))
      }
    }
  }

  /// The path and the query of a request's target, which may be a whole URI.
  static func target(_ text: String) -> (path: Substring, query: Substring) {
    var rest = text[...]
    if !rest.hasPrefix("/"), let scheme = rest.firstRange(of: "://") {
      let behind = rest[scheme.upperBound...]
      rest = behind.firstIndex { $0 == "/" || $0 == "?" }.map { behind[$0...] } ?? "/"
    }
    if let fragment = rest.firstIndex(of: "#") { rest = rest[..<fragment] }
    guard let mark = rest.firstIndex(of: "?") else { return (rest, "") }
    return (rest[..<mark], rest[rest.index(after: mark)...])
  }

  /// Some proxies pass the prefix on and some remove it. Both work.
  private func withoutBase(_ path: Substring) -> Substring {
    let base = context.settings.basePath
    guard !base.isEmpty, path.utf8.starts(with: base.utf8) else { return path }
    let rest = path.dropFirst(base.count)
    if rest.isEmpty { return "/" }
    return rest.first == "/" ? rest : path
  }

  /// The client's own request id if it is safe to log, and a new one otherwise.
  private static func requestID(_ headers: HTTPFields) -> String {
    if let field = HTTPField.Name("X-Request-Id"), let given = headers[field],
      (1...64).contains(given.utf8.count),
      given.utf8.allSatisfy({ byte in
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
          || "-_.".utf8.contains(byte)
      })
    {
      return given
    }
    return SystemRandom.uuid()
  }

  /// Converts an error to what the client is told, and logs what the operator needs to know.
  static func problem(_ error: any Error, _ id: String, _ context: APIContext) -> Problem {
    switch error {
    case let problem as Problem: return problem
    case let unavailable as DatabaseUnavailable:
      return .unavailable("\(unavailable.publicText) Try again soon.")
    case let error as PostgresError where error.sqlState == SQLState.canceled:
      return .unavailable("The request took too long. Ask for a shorter range.", retryAfter: 5)
    case let error as PostgresError where error.isRetriable:
      context.logger.warning("\(error)", metadata: ["request": "\(id)"])
      return .unavailable("PostgreSQL could not finish this request. Try again soon.")
    case let error as PostgresError where error.sqlState == SQLState.numericOverflow:
      return Problem(
        .badRequest, "sum_too_large",
        "A sum does not fit into 64 bits. Ask for a shorter window or finer groups.")
    case let error as PostgresError where error.sqlState == SQLState.timeOverflow:
      return Problem(
        .badRequest, "bad_request", "A time lies too far away. Give times of these centuries.")
    case let error as PostgresError where error.sqlState == SQLState.badCharacter:
      return Problem(.badRequest, "bad_request", "A string must not contain NUL.")
    default:
      context.logger.error("\(error)", metadata: ["request": "\(id)"])
      return .internalError
    }
  }
}

extension DatabaseUnavailable {
  /// The text for strangers, which names no host.
  fileprivate var publicText: String {
    switch self {
    case .away: "PostgreSQL cannot be reached."
    case .schema: "The database's schema does not fit this program."
    case .busy: "Too many requests are waiting."
    }
  }
}

/// Bounds the bytes of request bodies that are held at the same time, in total and for each client.
struct BodyBudget: Sendable {
  private let memory: BodyMemory

  init(_ memory: BodyMemory) { self.memory = memory }

  /// Runs `body` with the whole body of a request.
  ///
  /// - Parameter client: nil if it is unknown. Then only the total is bounded.
  /// - Throws: 413 for more than `maximum` bytes. 503 if this client or all clients together hold
  ///   too much.
  func collecting<Stream: AsyncSequence>(
    _ stream: Stream, _ maximum: Int, of client: AddressGroup?,
    _ body: ([UInt8]) async throws -> APIAnswer
  ) async throws -> APIAnswer where Stream.Element == ByteBuffer {
    var bytes: [UInt8] = []
    var taken = 0
    defer { memory.give(taken, of: client) }
    for try await part in stream {
      guard bytes.count + part.readableBytes <= maximum else { throw Problem.tooLarge(maximum) }
      guard memory.take(part.readableBytes, for: client) else {
        throw Problem.unavailable("Too many request bodies are arriving. Try again soon.")
      }
      taken += part.readableBytes
      bytes.append(contentsOf: part.readableBytesView)
    }
    return try await body(bytes)
  }
}

/// `ETag` and `If-None-Match`.
enum Conditional {
  static func apply(_ headers: HTTPFields, _ answer: APIAnswer) -> APIAnswer {
    guard answer.status == .ok, case .bytes(let bytes) = answer.body else { return answer }
    var answer = answer
    let tag = answer.headers[.eTag] ?? ETag.of(bytes)
    answer.headers[.eTag] = tag
    if let wanted = headers[.ifNoneMatch], ETag.names(wanted, tag) {
      answer.status = .notModified
      answer.headers[.contentType] = nil
      answer.body = .bytes([])
    }
    return answer
  }
}
