import Crypto
import Dispatch
import EventPublisher
import HTTPListening
import Licensing
import Metering
import NIOCore
import NIOHTTP1
import PostgresStore
import ServiceRuntime
import Synchronization
import SystemRandom

/// Answers the requests of the API.
///
/// `answer` is a function of the request and of what is known: where something has to be waited for, it throws that as a `Need`, and is asked
/// again from the start with what came. So the usual request, of a license in memory, is answered in one synchronous call.
final class ValidationAPI: Sendable {
  struct Settings: Sendable {
    var source = "/validation"
    var requiresKey = false
    var keyRate = RateLimiter.Rate(perSecond: 10_000, burst: 20_000)
    var anonymousRate = RateLimiter.Rate(perSecond: 1_000, burst: 5_000)
    /// All requests without a token from one address.
    var addressRate = RateLimiter.Rate(perSecond: 20_000, burst: 100_000)
    /// Of them, those for licenses that do not exist.
    var unknownRate = RateLimiter.Rate(perSecond: 200, burst: 2_000)
    var maximumDelayed = 10_000
    var eventRules = ReportedEvents.Rules()
    var address = ClientAddress(trustedProxies: [], detail: .truncated)
  }

  /// What an answer waits for.
  enum Need: Error {
    /// By its hash.
    case token(String)
    case licenses([Identifier])
    /// Who asks too often; in microseconds.
    case pause(Int64, Pause)
  }

  /// Which limit makes a request wait.
  enum Pause {
    case rate
    /// That of unknown licenses, before the database is asked for one more.
    case lookup
    /// The same, for a license that turned out to be unknown.
    case unknown
  }

  /// What is decided about a large body before it comes.
  enum Admission {
    case granted
    case refused(Problem)
    case later(@Sendable () async -> Problem?)
  }

  /// What was waited for. Each need is met once, so asking again comes to an end.
  struct Gathered {
    var token: Directory.Tokens.Lookup?
    var licenses: [Identifier: Directory.Licenses.Lookup] = [:]
    /// By the rate limit: it counts a request once.
    var isCounted = false
    /// By the rate limit of unknown licenses.
    var isUnknownCounted = false
    var hasWaitedForUnknown = false
  }

  private struct AnonymousKey: Hashable {
    var license: Identifier
    var client: AddressGroup?
  }

  private struct AddressKey: Hashable {
    var client: AddressGroup?
    var isForUnknown: Bool
  }

  private let settings: Settings
  private let directory: Directory
  private let judge: Judge
  private let signer: VerdictSigner
  let publisher: EventPublisher
  private let limiter = RateLimiter()
  private let idempotencyKeys = IdempotencyKeys()
  private let metrics: ValidationMetrics
  private let keySet: [UInt8]
  private let delayed = Atomic<Int>(0)
  private let largeBodies = LargeBodies()

  private static let validatePath = "/v1/licenses/validate"
  private static let eventsPath = "/v1/events"

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

  /// Of a body that is sent there.
  static func maximumBytes(_ path: String) -> Int {
    path == eventsPath ? ReportedEvents.maximumBytes : ValidateRequest.maximumBytes
  }

  /// Asked once a connection.
  func client(_ peer: SocketAddress?) -> ClientAddress.Client { settings.address.client(peer) }

  /// What is answered before the request is whole; counted.
  func refusal(_ problem: Problem, path: String) -> APIAnswer {
    metrics.answered(Int(problem.status.code))
    return path == Self.validatePath ? Self.openToBrowsers(problem.answer) : problem.answer
  }

  private static func openToBrowsers(_ answer: APIAnswer) -> APIAnswer {
    var answer = answer
    answer.headers.append(("access-control-allow-origin", "*"))
    return answer
  }

  func reply(to request: APIRequest) -> Reply {
    if request.body.count > LargeBodies.bytes {
      return .later { await self.wait(for: nil, request) }
    }
    do {
      return .now(try finished(request, Gathered()))
    } catch {
      return .later { await self.wait(for: error, request) }
    }
  }

  private func wait(for first: Need?, _ request: APIRequest) async -> APIAnswer {
    var gathered = Gathered()
    var need = first
    while true {
      if let need { await meet(need, &gathered) }
      do {
        return try await worked(request, gathered)
      } catch {
        need = error
      }
    }
  }

  private func worked(
    _ request: APIRequest, _ gathered: Gathered
  ) async throws(Need) -> APIAnswer {
    guard request.body.count > LargeBodies.bytes else { return try finished(request, gathered) }
    let result = await largeBodies.run { () -> Result<APIAnswer, Need> in
      do throws(Need) {
        return .success(try self.finished(request, gathered))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// Whether a large body may come: only whom the answer can serve is given the room for it.
  func admission(_ path: String, _ fields: RequestFields) -> Admission {
    guard path == Self.eventsPath else { return .granted }
    do {
      _ = try reporter(fields, Gathered())
      return .granted
    } catch Need.token(let hash) {
      return .later { [self] in
        var gathered = Gathered()
        gathered.token = await directory.tokens.lookup(hash)
        do {
          _ = try reporter(fields, gathered)
          return nil
        } catch {
          return Self.problem(error)
        }
      }
    } catch {
      return .refused(Self.problem(error))
    }
  }

  /// Whose share of the memory for bodies a request takes; nil: it is not known who asks.
  func bodyOwner(_ peer: ClientAddress.Client, _ fields: RequestFields) -> AddressGroup? {
    let client = settings.address.resolve(peer, forwardedFor: fields.forwardedFor)
    return client.isTrustedProxy ? nil : client.group
  }

  private func meet(_ need: Need, _ gathered: inout Gathered) async {
    switch need {
    case .token(let hash): gathered.token = await directory.tokens.lookup(hash)
    case .licenses(let ids):
      // They are asked for behind the rate limit.
      gathered.isCounted = true
      // At once: what waits together is read together.
      await withTaskGroup(of: (Identifier, Directory.Licenses.Lookup).self) { [directory] group in
        for id in ids { group.addTask { (id, await directory.licenses.lookup(id)) } }
        for await (id, lookup) in group { gathered.licenses[id] = lookup }
      }
    case .pause(let microseconds, let pause):
      // It is canceled where the service stops: the wait is only shorter then.
      try? await Task.sleep(nanoseconds: UInt64(microseconds) * 1_000)
      delayed.subtract(1, ordering: .relaxed)
      switch pause {
      case .rate: gathered.isCounted = true
      case .lookup: gathered.hasWaitedForUnknown = true
      case .unknown: (gathered.hasWaitedForUnknown, gathered.isUnknownCounted) = (true, true)
      }
    }
  }

  /// The answer, counted.
  private func finished(
    _ request: APIRequest, _ gathered: Gathered
  ) throws(Need) -> APIAnswer {
    let answer: APIAnswer
    do {
      answer = try self.answer(request, gathered)
    } catch let need as Need {
      throw need
    } catch {
      answer = Self.problem(error).answer
    }
    metrics.answered(Int(answer.status.code))
    return answer
  }

  private static func problem(_ error: any Error) -> Problem {
    error as? Problem
      ?? Problem(status: .internalServerError, code: "internal", detail: "Something broke here.")
  }

  // MARK: Routes

  private func answer(_ request: APIRequest, _ gathered: Gathered) throws -> APIAnswer {
    switch request.path {
    case Self.validatePath:
      do {
        return Self.openToBrowsers(try fromBrowsers(request, gathered))
      } catch let problem as Problem {
        return Self.openToBrowsers(problem.answer)
      }
    case Self.eventsPath:
      try allow(request, [.POST])
      return try events(request, gathered)
    case "/.well-known/jwks.json":
      try allow(request, [.GET, .HEAD])
      return APIAnswer(status: .ok, type: "application/jwk-set+json", body: keySet)
    case "/openapi.yaml":
      try allow(request, [.GET, .HEAD])
      return APIAnswer(status: .ok, type: "application/yaml", body: PackageResources.openapi_yaml)
    default:
      throw Problem(
        status: .notFound, code: "not_found", detail: "There is nothing here; see /openapi.yaml.")
    }
  }

  private func allow(_ request: APIRequest, _ methods: [HTTPMethod]) throws {
    guard methods.contains(request.method) else {
      let names = methods.map(\.rawValue).joined(separator: ", ")
      throw Problem(
        status: .methodNotAllowed, code: "method_not_allowed", detail: "Use \(names).",
        headers: [("allow", names)])
    }
  }

  private func fromBrowsers(
    _ request: APIRequest, _ gathered: Gathered
  ) throws -> APIAnswer {
    if request.method == .POST { return try validate(request, gathered) }
    try allow(request, [.POST, .OPTIONS])
    return APIAnswer(
      status: .noContent,
      headers: [
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "Authorization, Content-Type, Idempotency-Key"),
        ("access-control-max-age", "86400"), ("allow", "POST, OPTIONS"),
      ])
  }

  // MARK: Validation

  private func validate(_ request: APIRequest, _ gathered: Gathered) throws -> APIAnswer {
    let token = try authenticate(request.fields, gathered)
    if settings.requiresKey { try require(.licensesValidate, of: token) }
    let key = try idempotencyKey(request)
    let question = try ValidateRequest(request.body)
    if question.hasUsage { try require(.usageWrite, of: token) }
    let client = settings.address.resolve(
      request.peer, forwardedFor: request.fields.forwardedFor)
    if let token {
      try count(gathered) { charge(token.tokenID, settings.keyRate) }
    } else {
      try count(gathered) {
        max(
          charge(
            AnonymousKey(license: Identifier(question.licenseKey), client: client.group),
            settings.anonymousRate),
          charge(AddressKey(client: client.group, isForUnknown: false), settings.addressRate))
      }
    }
    let now = WallClock.milliseconds
    let finding = try judge.judge(
      licenseKey: question.licenseKey, domain: question.domain,
      meter: Identifier(question.meter), customer: token?.customerID, now: now
    ) { id in
      if token == nil { try limitLookups(id, client, gathered) }
      return try license(id, gathered)
    }
    if token == nil, finding.terms == nil { try limitUnknown(client, gathered) }
    if question.hasUsage { try checkOwner(of: finding, token) }
    try checkRepetition(question, finding, key: key, token: token)
    // A stranger who only knows an id is not told what was sold under it.
    let told = finding.verdict.isValid || token != nil ? finding.terms : nil
    guard
      let answer = ValidateAnswer.make(
        finding.verdict, told, licenseID: finding.licenseID,
        licenseKey: question.licenseKey, domain: finding.domain,
        nonce: question.nonce ?? SystemRandom.hexadecimal(), now: now, signer: signer)
    else { throw Problem.unavailable("The answer cannot be signed; try again.") }
    let elapsed = Int64(DispatchTime.now().uptimeNanoseconds - request.received) / 1_000
    publish(
      question, finding, key: key, token: token, client: client, sdk: request.fields.userAgent,
      elapsed: elapsed, now: now)
    metrics.judged(finding.verdict.code, microseconds: elapsed)
    return APIAnswer(status: .ok, type: "application/json", body: answer)
  }

  /// - Throws: `Problem`, 401 or 403.
  private func require(_ scope: TokenScope, of token: AccessStore.TokenRow?) throws {
    guard let token else { throw Problem.unauthorized }
    guard scope.isGranted(by: token.scopes) else {
      throw Problem(
        status: .forbidden, code: "missing_scope",
        detail: "The token needs the scope \(scope.rawValue).")
    }
  }

  /// What was used may be said by the license's customer, and by the vendor.
  private func checkOwner(of finding: Judge.Finding, _ token: AccessStore.TokenRow?) throws {
    guard let customer = token?.customerID, finding.customerID != customer,
      finding.verdict.code != .invalidSignature
    else { return }
    if finding.isOwnerUnknown {
      throw Problem.unavailable("Whose the license is cannot be asked now; try again.")
    }
    throw Problem(
      status: .forbidden, code: "not_your_license",
      detail: "The license is none of the token's customer; nothing was recorded.")
  }

  private func checkRepetition(
    _ question: ValidateRequest, _ finding: Judge.Finding, key: String?,
    token: AccessStore.TokenRow?
  ) throws {
    guard let key, let token, finding.verdict.isValid, let license = finding.licenseID else {
      return
    }
    let isConsistent = idempotencyKeys.isConsistent(
      key, license: license, token: token.tokenID, question.idempotentUsage)
    guard isConsistent else {
      throw Problem(
        status: .unprocessableEntity, code: "idempotency_mismatch",
        detail: "The Idempotency-Key was sent with another usage; nothing was recorded.")
    }
  }

  private func publish(
    _ question: ValidateRequest, _ finding: Judge.Finding, key: String?,
    token: AccessStore.TokenRow?, client: ClientAddress.Client, sdk: String?, elapsed: Int64,
    now: Int64
  ) {
    // Whose key it is that does not verify, only the key itself says: it must not be held against anybody's license.
    publisher.publish(
      ValidationEvent(
        source: settings.source, subject: finding.licenseID?.string ?? "(unverified)",
        code: finding.verdict.code.rawValue, isValid: finding.verdict.isValid,
        domain: question.domain, clientIP: client.text, sdk: sdk, duration: elapsed, time: now))
    guard finding.verdict.isValid, question.quantity > 0, let license = finding.licenseID else {
      return
    }
    // A retry may reach another instance: what it repeats is known by the license, the caller's
    // name, the key and the usage alone.
    publisher.publish(
      UsageEvent(
        id: key.map { IdempotencyKeys.eventID($0, question.idempotentUsage) },
        source: key == nil ? settings.source : "/validation/" + (token?.tokenID ?? "anonymous"),
        subject: license.string, meter: question.meter, quantity: question.quantity,
        domain: question.domain, time: now))
  }

  private func idempotencyKey(_ request: APIRequest) throws -> String? {
    guard let key = request.fields.idempotencyKey else { return nil }
    guard (1...255).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else {
      throw Problem.badRequest(
        "bad_idempotency_key", "Idempotency-Key must be 1 to 255 printable ASCII characters.")
    }
    return key
  }

  // MARK: Events

  /// The token of who may report events, and its customer.
  private func reporter(
    _ fields: RequestFields, _ gathered: Gathered
  ) throws -> (token: AccessStore.TokenRow, customerID: Identifier) {
    guard let token = try authenticate(fields, gathered) else { throw Problem.unauthorized }
    try require(.usageWrite, of: token)
    guard let customer = token.customerID else {
      throw Problem(
        status: .forbidden, code: "no_customer", detail: "The token belongs to no customer.")
    }
    return (token, customer)
  }

  private func events(_ request: APIRequest, _ gathered: Gathered) throws -> APIAnswer {
    let (token, customer) = try reporter(request.fields, gathered)
    let isBatch: Bool?
    // Blanks may stand before the parameters (RFC 9110, section 5.6.6).
    switch request.fields.contentType?.prefix(while: { !"; \t".contains($0) }).lowercased() {
    case "application/cloudevents-batch+json": isBatch = true
    case "application/cloudevents+json": isBatch = false
    case nil, "application/json": isBatch = nil
    default:
      throw Problem(
        status: .unsupportedMediaType, code: "unsupported_media_type",
        detail: "Send application/cloudevents+json or application/cloudevents-batch+json.")
    }
    // By its size, as what it costs is: a request for each KiB that is begun.
    try count(gathered) {
      charge(token.tokenID, settings.keyRate, cost: 1 + request.body.count / 1_024)
    }
    let reported = try ReportedEvents(
      request.body, isBatch: isBatch, customerID: customer, now: WallClock.milliseconds,
      rules: settings.eventRules)
    try checkOwner(customer, of: reported.subjects, gathered)
    switch publisher.publish(batch: reported.events) {
    case .accepted:
      return APIAnswer(status: .accepted, type: "application/json", body: reported.answer())
    case .full: throw Problem.unavailable("The spool is full; nothing was taken, try again.")
    case .invalid:
      throw Problem.badRequest("bad_request", "An event breaks the contract; nothing was taken.")
    }
  }

  private func checkOwner(
    _ customer: Identifier, of subjects: Set<Identifier>, _ gathered: Gathered
  ) throws {
    var isUnknown = false
    var missing: [Identifier] = []
    for subject in subjects {
      do {
        switch try license(subject, gathered) {
        case .found(let known) where known.customerID == customer: continue
        case .unavailable: isUnknown = true
        case .found, .missing:
          throw Problem(
            status: .forbidden, code: "not_your_license",
            detail: "A subject is no license of the token's customer; nothing was taken.")
        }
      } catch Need.licenses(let ids) {
        missing += ids
      }
    }
    if !missing.isEmpty { throw Need.licenses(missing) }
    if isUnknown {
      throw Problem.unavailable("Whose the licenses are cannot be asked now; try again.")
    }
  }

  // MARK: What both need

  private func license(
    _ id: Identifier, _ gathered: Gathered
  ) throws -> Directory.Licenses.Lookup {
    // No license has such an id, and what is asked for is kept in memory.
    if id.utf8.count > Limits.subjectBytes { return .missing }
    if let cached = directory.licenses.cached(id) { return cached }
    guard let lookup = gathered.licenses[id] else { throw Need.licenses([id]) }
    return lookup
  }

  /// Nil without `Authorization`.
  private func authenticate(
    _ fields: RequestFields, _ gathered: Gathered
  ) throws -> AccessStore.TokenRow? {
    guard let header = fields.authorization else { return nil }
    guard (8...512).contains(header.utf8.count), header.lowercased().hasPrefix("bearer ") else {
      throw Problem.unauthorized
    }
    // One blank or more separates the scheme from the token (RFC 9110, section 11.4).
    let secret = Array(header.utf8.dropFirst(7).drop { $0 == 0x20 })
    let hash = Hexadecimal.text(Array(SHA256.hash(data: secret)))
    guard let lookup = directory.tokens.cached(hash) ?? gathered.token else {
      throw Need.token(hash)
    }
    switch lookup {
    case .found(let token):
      if let end = token.expiresAt, end <= WallClock.milliseconds { throw Problem.unauthorized }
      return token
    case .missing: throw Problem.unauthorized
    case .unavailable: throw Problem.unavailable("Tokens cannot be checked now; try again.")
    }
  }

  // MARK: Rate limits

  private func charge(
    _ key: some Hashable, _ rate: RateLimiter.Rate, cost: Int = 1
  ) -> Int64 {
    limiter.delay(
      key, rate, cost: cost, now: Int64(DispatchTime.now().uptimeNanoseconds / 1_000))
  }

  /// Counts a request once, by what `charge` counts, and has it wait if that says so.
  private func count(_ gathered: Gathered, _ charge: () -> Int64) throws {
    if !gathered.isCounted { try pause(charge(), .rate) }
  }

  /// Who asks for many licenses that do not exist waits before one more is looked up.
  private func limitLookups(
    _ id: Identifier, _ client: ClientAddress.Client, _ gathered: Gathered
  ) throws {
    guard !gathered.hasWaitedForUnknown, gathered.licenses[id] == nil,
      directory.licenses.cached(id) == nil
    else { return }
    let key = AddressKey(client: client.group, isForUnknown: true)
    try pause(charge(key, settings.unknownRate, cost: 0), .lookup)
  }

  /// Invented ids evade the limit of a license, so they have one of their own.
  private func limitUnknown(_ client: ClientAddress.Client, _ gathered: Gathered) throws {
    if gathered.isUnknownCounted { return }
    let key = AddressKey(client: client.group, isForUnknown: true)
    let microseconds = charge(key, settings.unknownRate)
    if !gathered.hasWaitedForUnknown { try pause(microseconds, .unknown) }
  }

  private func pause(_ microseconds: Int64, _ pause: Pause) throws {
    guard microseconds >= 1_000 else { return }
    metrics.delayed.increment()
    guard delayed.add(1, ordering: .relaxed).newValue <= settings.maximumDelayed else {
      delayed.subtract(1, ordering: .relaxed)
      throw Problem(
        status: .tooManyRequests, code: "too_many_requests",
        detail: "Too many requests wait already; come again later.",
        headers: [("retry-after", "5")])
    }
    throw Need.pause(microseconds, pause)
  }
}
