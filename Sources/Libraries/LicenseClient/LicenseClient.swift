import DomainNames
import Licensing
import Metering
import NIOCore
import Synchronization

/// Validates licenses. It is a `LicenseClient`, or a `FakeLicenseClient` in tests.
public protocol LicenseValidator: Sendable {
  /// Whether the license is valid for a domain.
  func validate(_ domain: String) async -> LicenseResult
}

/// Asks the validation service whether a license is valid, uses its earlier signed answers while it
/// does not answer, checks license tokens offline, and reports usage. One client serves a whole
/// process.
///
/// ```swift
/// let client = try LicenseClient(
///   .init(url: "https://licenses.example.com", licenseKey: "lic_abc123"))
/// let result = await client.validate("app.example.com")
/// print(result.isValid, result.code, result.features.has("analytics"))
/// ```
///
/// - An answer is accepted if the service signed it for this nonce, license key and domain within 5
///   minutes of the clock. Anything else counts as no answer and never means that a license is
///   invalid.
/// - A "yes" that the service has signed is used for up to seven days while it cannot be reached. A
///   signed "no" ends that.
/// - `sdks/README.md` describes what all SDKs have in common, and `sdks/conformance` tests it.
public final class LicenseClient: LicenseValidator, Sendable {
  /// Why a client could not be made.
  public typealias InvalidOptions = LicenseClientOptions.Invalid

  struct State {
    var keys: JSONWebKeySet?
    var keysAsked: NIODeadline?
    /// The questions that are on their way.
    var flights: [VerdictCache.Key: Task<Result<VerdictCache.Entry, NoAnswer>, Never>] = [:]
    var pausedUntil: NIODeadline?
    /// Why the last question had no answer.
    var problem = NoAnswer.connection.problem
  }

  static let toleranceMilliseconds: Int64 = 300_000
  /// A "no" is checked again sooner than a "yes".
  private static let noIsFreshMilliseconds: Int64 = 60_000

  let options: LicenseClientOptions
  let rules: any DomainNameRules
  let transport: ServiceTransport
  let cache: VerdictCache
  let state: Mutex<State>
  private let usage: UsageQueue

  /// Makes a client, which asks nothing yet.
  ///
  /// - Throws: `InvalidOptions` if an option is invalid, or if there is no Public Suffix List.
  public init(_ options: LicenseClientOptions) throws(InvalidOptions) {
    try options.check()
    guard let rules = options.rules ?? PublicSuffixList.shared else {
      throw InvalidOptions("there is no Public Suffix List. Install publicsuffix, or set rules")
    }
    let folder = options.cacheDirectory.map { VerdictFolder(path: $0) }
    let transport = try ServiceTransport(options)
    // If saved keys cannot be read, they are fetched.
    let keys =
      options.keys
      ?? folder?.read(VerdictFolder.keysFile)?.keys.flatMap { try? JSONWebKeySet(json: $0.utf8) }
    self.options = options
    self.rules = rules
    self.transport = transport
    cache = VerdictCache(folder: folder, keys: keys)
    state = Mutex(State(keys: keys))
    usage = UsageQueue(maximum: options.maximumUsageQueue, onProblem: options.onProblem) {
      [options] batch, count throws(NoAnswer) in
      try await Self.send(batch, count, options, transport)
    }
  }

  /// Whether the license is valid for a domain, which is a host name or an address as in a `Host`
  /// header.
  public func validate(_ domain: String) async -> LicenseResult {
    await validate(domain, licenseKey: options.licenseKey)
  }

  /// Whether a license other than the client's is valid for a domain.
  public func validate(_ domain: String, licenseKey: String) async -> LicenseResult {
    guard licenseKey.isPlain(upTo: LicenseClientOptions.maximumKeyBytes) else {
      return .denied("not_found", .none, problem: "bad_license_key")
    }
    guard let name = DomainName(domain, rules: rules) else {
      return .denied("domain_mismatch", .offline)
    }
    let question = Question(licenseKey: licenseKey, domain: name)
    if let result = await remembered(question) { return result }
    let problem: String
    if let paused = pauseProblem {
      problem = paused
    } else {
      switch await ask(question).value {
      case .success(let entry): return result(entry, .online)
      case .failure(let failure): problem = failure.problem
      }
    }
    return await withoutAnswer(question, problem)
  }

  /// Checks a license token only by its signature, without asking the service. It needs keys that
  /// are compiled in or were fetched before.
  ///
  /// - Parameter licenseKey: a license token. Nil stands for the client's license key.
  public func validateOffline(_ domain: String, licenseKey: String? = nil) -> LicenseResult {
    if isRolledBack { return .denied("clock_rolled_back", .offline) }
    guard let keys = state.withLock(\.keys) else {
      return .denied("unreachable", .offline, problem: "no_keys")
    }
    let claims: LicenseClaims
    do throws(TokenRefusal) {
      claims = try LicenseVerifier(keys: keys).verify(licenseKey ?? options.licenseKey)
    } catch {
      var result = LicenseResult.denied("invalid_signature", .offline, problem: error.code)
      result.explanation = Verdict(refused: error).explanation
      return result
    }
    let verdict = Verdict.judge(
      LicenseTerms(claims, rules: rules), domain: DomainName(domain, rules: rules),
      now: options.clock(), isOverLimit: false)
    var result = LicenseResult.denied(verdict.code.rawValue, .offline)
    result.isValid = verdict.isValid
    result.isInGrace = verdict.code == .grace
    result.licenseID = claims.licenseID.string
    result.plan = claims.plan
    result.limits = claims.limits
    result.expiresAt = claims.expiresAt
    if result.isValid { result.features = LicenseFeatures(claims.features) }
    return result
  }

  /// Queues usage without waiting.
  ///
  /// - Returns: false if it was dropped, because the queue is full, the client is closed, or the
  ///   record breaks a rule.
  @discardableResult
  public func record(_ usage: UsageRecord) -> Bool {
    let own = options.licenseKey.utf8.contains(UInt8(ascii: ".")) ? "" : options.licenseKey
    return self.usage.record(usage, licenseID: usage.licenseID ?? own, now: options.clock())
  }

  /// Queues usage of the client's own license without waiting (see `record(_:)`).
  @discardableResult
  public func record(_ meter: String, _ quantity: Int64 = 1, feature: String? = nil) -> Bool {
    record(UsageRecord(meter: meter, quantity: quantity, feature: feature))
  }

  /// The outcomes of the usage so far.
  public var usageStatistics: UsageStatistics { usage.statistics }

  /// Sends the usage that is queued now, and returns whether all of it was sent. A request that has
  /// begun by the end of the time may take `totalTimeout` more.
  @discardableResult
  public func flush(within limit: Duration = .seconds(5)) async -> Bool {
    await usage.flush(until: .now() + TimeAmount(limit))
  }

  /// Sends queued usage like `flush`, and then accepts no more. The rest is dropped and counted.
  /// Call it before the process ends, because the queue is in memory.
  public func close(within limit: Duration = .seconds(5)) async {
    await usage.close(until: .now() + TimeAmount(limit))
  }

  // MARK: - What is remembered

  /// The subject of a question.
  struct Question: Sendable {
    var licenseKey: String
    var domain: DomainName
    var key: VerdictCache.Key { .init(licenseKey: licenseKey, domain: domain) }
  }

  private func remembered(_ question: Question) async -> LicenseResult? {
    if isRolledBack { return .denied("clock_rolled_back", .none) }
    var found = cache.get(question.key)
    if found.map({ ageInCache($0) >= freshness($0) }) ?? true {
      found = await cache.load(
        question.key, domain: question.domain, keys: state.withLock(\.keys))
    }
    guard let known = found else { return nil }
    if hasEnded(known) { return nil }
    let age = ageInCache(known)
    if age < freshness(known) { return result(known, .cache) }
    guard known.verdict.isValid, age < 2 * options.freshFor.milliseconds else { return nil }
    // The entry is refreshed after the answer is given.
    if pauseProblem == nil { _ = ask(question) }
    return result(known, .cache)
  }

  private func withoutAnswer(_ question: Question, _ problem: String) async -> LicenseResult {
    if isRolledBack { return .denied("clock_rolled_back", .none, problem: problem) }
    let now = options.clock()
    if let known = await cache.load(
      question.key, domain: question.domain, keys: state.withLock(\.keys))
    {
      if !known.verdict.isValid { return result(known, .cache, problem) }
      if options.onUnknown != .deny {
        if let ends = known.verdict.expiresAt, now >= ends + Verdict.graceMilliseconds {
          return .denied("expired", .cache, problem: problem)
        }
        if now - known.verdict.timestamp <= options.graceFor.milliseconds {
          return result(known, .grace, problem)
        }
      }
    }
    if options.offlineFallback {
      let offline = validateOffline(
        question.domain.description, licenseKey: question.licenseKey)
      if offline.problem == nil { return offline }
    }
    var result = LicenseResult.denied("unreachable", .none, problem: problem)
    result.isValid = options.onUnknown == .allow
    return result
  }

  private var isRolledBack: Bool {
    options.clock() < cache.highestTime - Self.toleranceMilliseconds
  }

  private func ageInCache(_ entry: VerdictCache.Entry) -> Int64 {
    max(0, options.clock() - entry.received)
  }

  private func freshness(_ entry: VerdictCache.Entry) -> Int64 {
    let fresh = options.freshFor.milliseconds
    return entry.verdict.isValid ? fresh : min(fresh, Self.noIsFreshMilliseconds)
  }

  /// Whether the license has reached an end since the verdict. Then the service is asked.
  private func hasEnded(_ entry: VerdictCache.Entry) -> Bool {
    entry.verdict.ends.map { options.clock() >= $0 } ?? false
  }

  private func result(
    _ entry: VerdictCache.Entry, _ source: LicenseResult.Source, _ problem: String? = nil
  ) -> LicenseResult {
    let verdict = entry.verdict
    let now = options.clock()
    var result = LicenseResult(isValid: verdict.isValid, code: verdict.code, source: source)
    result.isInGrace =
      verdict.isInGrace || (verdict.isValid && verdict.expiresAt.map { now >= $0 } ?? false)
    if result.isInGrace, result.code == Verdict.Code.valid.rawValue {
      result.code = Verdict.Code.grace.rawValue
    }
    if source != .online { result.age = .milliseconds(max(0, now - verdict.timestamp)) }
    if verdict.isValid { result.features = LicenseFeatures(verdict.features) }
    result.licenseID = verdict.licenseID
    result.plan = verdict.plan
    result.limits = verdict.limits
    result.expiresAt = verdict.expiresAt
    result.isOverLimit = verdict.isOverLimit
    result.explanation = verdict.explanation
    result.problem = problem
    return result
  }
}
