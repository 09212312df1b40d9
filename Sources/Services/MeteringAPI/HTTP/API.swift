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

/// From a request's head and body to its answer.
struct API: Sendable {
  static let maximumBodyBytes = 1 << 20
  /// Forms of pages, which anybody may send.
  static let maximumFormBytes = 64 << 10
  /// Of bodies that are not answered yet, all requests together.
  private static let heldBodyBytes = 64 << 20
  /// Of those, what one client may take.
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
        "This path takes \(allowed.joined(separator: ", ")).",
        headers: [.allow: allowed.joined(separator: ", ")])
    case .route(let route, let parameters):
      name = "\(route.method) \(route.path)"
      var caller = Caller.nobody
      var most = Self.maximumFormBytes
      if case .token(let scope) = route.access {
        // Before the body is read: who may not send one cannot make us keep it.
        caller = try await Access.caller(
          request.headers[.authorization], context, reads: route.method == .get)
        try caller.require(scope)
        most = Self.maximumBodyBytes
      }
      // Whatever it was that a write changed.
      defer { if route.method != .get { context.tokens.forgetAll() } }
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
  private static func target(_ text: String) -> (path: Substring, query: Substring) {
    var rest = text[...]
    if !rest.hasPrefix("/"), let scheme = rest.firstRange(of: "://") {
      let behind = rest[scheme.upperBound...]
      rest = behind.firstIndex { $0 == "/" || $0 == "?" }.map { behind[$0...] } ?? "/"
    }
    if let fragment = rest.firstIndex(of: "#") { rest = rest[..<fragment] }
    guard let mark = rest.firstIndex(of: "?") else { return (rest, "") }
    return (rest[..<mark], rest[rest.index(after: mark)...])
  }

  /// Proxies pass the prefix on or take it away; both work.
  private func withoutBase(_ path: Substring) -> Substring {
    let base = context.settings.basePath
    guard !base.isEmpty, path.utf8.starts(with: base.utf8) else { return path }
    let rest = path.dropFirst(base.count)
    if rest.isEmpty { return "/" }
    return rest.first == "/" ? rest : path
  }

  /// The client's own where it is one that a log can hold, or a new one.
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

  /// What a client is told of an error, and what the log is.
  static func problem(_ error: any Error, _ id: String, _ context: APIContext) -> Problem {
    switch error {
    case let problem as Problem: return problem
    case let unavailable as DatabaseUnavailable:
      return .unavailable("Try again soon: \(unavailable.publicText)")
    case let error as PostgresError where error.sqlState == SQLState.canceled:
      return .unavailable("It took too long; ask for a shorter range.", retryAfter: 5)
    case let error as PostgresError where error.isRetriable:
      context.logger.warning("\(error)", metadata: ["request": "\(id)"])
      return .unavailable("Try again soon: PostgreSQL could not finish this.")
    case let error as PostgresError where error.sqlState == SQLState.numericOverflow:
      return Problem(
        .badRequest, "sum_too_large",
        "A sum is beyond 64 bits; ask for a shorter window or finer groups.")
    case let error as PostgresError where error.sqlState == SQLState.badCharacter:
      return Problem(.badRequest, "bad_request", "A text must not hold NUL.")
    default:
      context.logger.error("\(error)", metadata: ["request": "\(id)"])
      return .internalError
    }
  }
}

extension DatabaseUnavailable {
  /// For strangers: it names no host.
  fileprivate var publicText: String {
    switch self {
    case .away: "PostgreSQL is away."
    case .schema: "the database's schema does not fit this program."
    case .busy: "too many requests wait."
    }
  }
}

/// Bounds the bytes of bodies that are held at a time, of all requests and of each client.
struct BodyBudget: Sendable {
  private let memory: BodyMemory

  init(_ memory: BodyMemory) { self.memory = memory }

  /// Runs `body` with the whole of a request's body.
  ///
  /// - Parameter client: nil where it is not known; it has no share of its own then.
  /// - Throws: 413 beyond `maximum`; 503 where this client or all together hold too much.
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
        throw Problem.unavailable("Too many bodies come at a time.")
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
