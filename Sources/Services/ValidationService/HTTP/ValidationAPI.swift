import Crypto
import EventPublisher
import Foundation
import HTTPTypes
import Hummingbird
import Licensing
import Metering
import NIOCore
import PostgresStore
import ServiceRuntime
import Synchronization

/// Answers the requests of the API.
final class ValidationAPI: HTTPResponder, Sendable {
  typealias Context = ClientContext

  struct Settings: Sendable {
    var source = "/validation"
    var requiresKey = false
    var keyRate = RateLimiter.Rate(perSecond: 10_000, burst: 20_000)
    var anonymousRate = RateLimiter.Rate(perSecond: 1_000, burst: 5_000)
    var maximumDelayed = 10_000
    var address = ClientAddress(trustedProxies: [], detail: .truncated)
  }

  private struct AnonymousKey: Hashable {
    var license: String
    var address: IPAddress?
  }

  private let settings: Settings
  private let directory: Directory
  private let judge: Judge
  private let signer: VerdictSigner
  private let publisher: EventPublisher
  private let limiter = RateLimiter()
  private let metrics: ValidationMetrics
  private let keySet: [UInt8]
  private let delayed = Atomic<Int>(0)

  init(
    settings: Settings, directory: Directory, judge: Judge, signer: VerdictSigner,
    publisher: EventPublisher, keySet: [UInt8], metrics: ValidationMetrics
  ) {
    self.settings = settings
    self.directory = directory
    self.judge = judge
    self.signer = signer
    self.publisher = publisher
    self.keySet = keySet
    self.metrics = metrics
  }

  func respond(to request: Request, context: ClientContext) async throws -> Response {
    let response: Response
    do {
      response = try await route(request, context)
    } catch let problem as Problem {
      response = problem.response
    }
    metrics.answered(response.status.code)
    return request.method == .head ? response.createHeadResponse() : response
  }

  private func route(_ request: Request, _ context: ClientContext) async throws -> Response {
    switch request.uri.path {
    case "/v1/licenses/validate":
      var response: Response
      do {
        response = try await openToBrowsers(request, context)
      } catch let problem as Problem {
        response = problem.response
      }
      response.headers[.accessControlAllowOrigin] = "*"
      return response
    case "/v1/events":
      try allow(request, [.post])
      return try await events(request)
    case "/.well-known/jwks.json":
      try allow(request, [.get, .head])
      return .bytes(.ok, keySet, type: "application/jwk-set+json")
    case "/openapi.yaml":
      try allow(request, [.get, .head])
      return .bytes(.ok, PackageResources.openapi_yaml, type: "application/yaml")
    default:
      throw Problem(
        status: .notFound, code: "not_found", detail: "There is nothing here; see /openapi.yaml.")
    }
  }

  private func allow(_ request: Request, _ methods: [HTTPRequest.Method]) throws {
    guard methods.contains(request.method) else {
      let names = methods.map(\.rawValue).joined(separator: ", ")
      throw Problem(
        status: .methodNotAllowed, code: "method_not_allowed", detail: "Use \(names).",
        headers: [.allow: names])
    }
  }

  private func openToBrowsers(_ request: Request, _ context: ClientContext) async throws -> Response
  {
    if request.method == .options {
      return Response(
        status: .noContent,
        headers: [
          .accessControlAllowMethods: "POST, OPTIONS",
          .accessControlAllowHeaders: "Authorization, Content-Type, Idempotency-Key",
          .accessControlMaxAge: "86400", .allow: "POST, OPTIONS",
        ])
    }
    try allow(request, [.post, .options])
    return try await validate(request, context)
  }

  // MARK: Validation

  private func validate(_ request: Request, _ context: ClientContext) async throws -> Response {
    let token = try await authenticate(request)
    if token == nil, settings.requiresKey { throw Problem.unauthorized }
    let key = try idempotencyKey(request)
    let body = try await collect(request, ValidateRequest.maximumBytes)
    let began = DispatchTime.now().uptimeNanoseconds
    let question = try ValidateRequest(body)
    let address = settings.address.resolve(
      context.peer, forwardedFor: request.headers[.forwardedFor])
    if let token {
      try await delay(token.tokenID, settings.keyRate)
    } else {
      try await delay(
        AnonymousKey(license: question.licenseKey, address: address), settings.anonymousRate)
    }
    let now = WallClock.milliseconds
    let finding = try await judge.judge(
      licenseKey: question.licenseKey, domain: question.domain, meter: question.meter, now: now)
    guard
      let answer = ValidateAnswer.make(
        finding.verdict, finding.terms, licenseID: finding.licenseID,
        nonce: question.nonce ?? Self.makeNonce(), now: now, signer: signer)
    else { throw Problem.unavailable("The answer cannot be signed; try again.") }
    let elapsed = Int64(DispatchTime.now().uptimeNanoseconds - began) / 1_000
    publish(
      question, finding, key: key, token: token, address: address,
      sdk: request.headers[.userAgent], elapsed: elapsed, now: now)
    metrics.judged(finding.verdict.code, microseconds: elapsed)
    return .bytes(.ok, answer, type: "application/json")
  }

  private func publish(
    _ question: ValidateRequest, _ finding: Judge.Finding, key: String?,
    token: AccessStore.TokenRow?, address: IPAddress?, sdk: String?, elapsed: Int64, now: Int64
  ) {
    // Whose key it is that does not verify, only the key itself says: it must not be held against anybody's license.
    publisher.publish(
      ValidationEvent(
        source: settings.source, subject: finding.licenseID ?? "(unverified)",
        code: finding.verdict.code.rawValue, isValid: finding.verdict.isValid,
        domain: question.domain, clientIP: settings.address.text(address), sdk: sdk,
        duration: elapsed, time: now))
    guard finding.verdict.isValid, question.quantity > 0, let license = finding.licenseID else {
      return
    }
    // A retry may reach another instance: what it repeats is known by the caller's name and the key alone.
    publisher.publish(
      UsageEvent(
        id: key,
        source: key == nil ? settings.source : "/validation/" + (token?.tokenID ?? "anonymous"),
        subject: license, meter: question.meter, quantity: question.quantity,
        domain: question.domain, time: now))
  }

  private static func makeNonce() -> String {
    Hexadecimal.text((0..<16).map { _ in UInt8.random(in: .min ... .max) })
  }

  private func idempotencyKey(_ request: Request) throws -> String? {
    guard let key = request.headers[.idempotencyKey] else { return nil }
    guard (1...255).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else {
      throw Problem.badRequest(
        "bad_idempotency_key", "Idempotency-Key must be 1 to 255 printable ASCII characters.")
    }
    return key
  }

  // MARK: Events

  private func events(_ request: Request) async throws -> Response {
    guard let token = try await authenticate(request) else { throw Problem.unauthorized }
    guard token.scopes.contains("usage:write") else {
      throw Problem(
        status: .forbidden, code: "missing_scope",
        detail: "The token needs the scope usage:write.")
    }
    guard let customer = token.customerID else {
      throw Problem(
        status: .forbidden, code: "no_customer", detail: "The token belongs to no customer.")
    }
    let isBatch: Bool?
    switch request.headers[.contentType]?.prefix(while: { $0 != ";" }).lowercased() {
    case "application/cloudevents-batch+json": isBatch = true
    case "application/cloudevents+json": isBatch = false
    case nil, "application/json": isBatch = nil
    default:
      throw Problem(
        status: .unsupportedMediaType, code: "unsupported_media_type",
        detail: "Send application/cloudevents+json or application/cloudevents-batch+json.")
    }
    let body = try await collect(request, ReportedEvents.maximumBytes)
    try await delay(token.tokenID, settings.keyRate)
    let reported = try ReportedEvents(
      body, isBatch: isBatch, customerID: customer, now: WallClock.milliseconds)
    for subject in reported.subjects {
      switch await owner(subject) {
      case .some(.some(let owner)) where owner == customer: continue
      case .none:
        throw Problem.unavailable("Whose the licenses are cannot be asked now; try again.")
      default:
        throw Problem(
          status: .forbidden, code: "not_your_license",
          detail: "A subject is no license of the token's customer; nothing was taken.")
      }
    }
    switch publisher.publish(batch: reported.events) {
    case .accepted: return .bytes(.accepted, reported.answer(), type: "application/json")
    case .full: throw Problem.unavailable("The spool is full; nothing was taken, try again.")
    case .invalid:
      throw Problem.badRequest("bad_request", "An event breaks the contract; nothing was taken.")
    }
  }

  /// Nil: cannot be asked now.
  private func owner(_ license: String) async -> String?? {
    var lookup = directory.licenses.cached(license)
    if lookup == nil { lookup = await directory.licenses.lookup(license) }
    switch lookup {
    case .found(let known): return .some(known.customerID)
    case .missing: return .some(nil)
    default: return .none
    }
  }

  // MARK: What both need

  /// Nil without `Authorization`.
  private func authenticate(_ request: Request) async throws -> AccessStore.TokenRow? {
    guard let header = request.headers[.authorization] else { return nil }
    guard header.lowercased().hasPrefix("bearer "), (8...512).contains(header.utf8.count) else {
      throw Problem.unauthorized
    }
    let hash = Hexadecimal.text(Array(SHA256.hash(data: Array(header.utf8.dropFirst(7)))))
    var lookup = directory.tokens.cached(hash)
    if lookup == nil { lookup = await directory.tokens.lookup(hash) }
    switch lookup {
    case .found(let token):
      if let end = token.expiresAt, end <= WallClock.milliseconds { throw Problem.unauthorized }
      return token
    case .missing: throw Problem.unauthorized
    default: throw Problem.unavailable("Tokens cannot be checked now; try again.")
    }
  }

  private func collect(_ request: Request, _ maximumBytes: Int) async throws -> [UInt8] {
    let tooLarge = Problem(
      status: .contentTooLarge, code: "too_large",
      detail: "The body may have at most \(maximumBytes) bytes.")
    if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > maximumBytes {
      throw tooLarge
    }
    var bytes: [UInt8] = []
    for try await part in request.body {
      guard bytes.count + part.readableBytes <= maximumBytes else { throw tooLarge }
      bytes.append(contentsOf: part.readableBytesView)
    }
    return bytes
  }

  private func delay(_ key: some Hashable & Sendable, _ rate: RateLimiter.Rate) async throws {
    let now = Int64(DispatchTime.now().uptimeNanoseconds / 1_000)
    let microseconds = limiter.delay(key, rate, now: now)
    guard microseconds >= 1_000 else { return }
    metrics.delayed.increment()
    defer { delayed.subtract(1, ordering: .relaxed) }
    guard delayed.add(1, ordering: .relaxed).newValue <= settings.maximumDelayed else {
      throw Problem(
        status: .tooManyRequests, code: "too_many_requests",
        detail: "Too many requests wait already; come again later.",
        headers: [.retryAfter: "5"])
    }
    try await Task.sleep(nanoseconds: UInt64(microseconds) * 1_000)
  }
}

extension HTTPField.Name {
  fileprivate static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
  fileprivate static let forwardedFor = HTTPField.Name("X-Forwarded-For")!
}
