import JSONText
import Licensing
import NIOCore
import Synchronization
import SystemRandom

/// Asks the service and verifies its answers.
extension LicenseClient {
  /// The version of this SDK.
  public static let version = "0.1.0"

  private static let maximumAnswerBytes = 65_536
  /// The largest size of a key set, and of the answer to a batch of events.
  private static let maximumSetBytes = 1_048_576
  private static let tries = 3
  private static let firstDelayMilliseconds = 100.0
  /// An unknown key makes the client fetch the keys, at most once in this time.
  private static let keysPause = TimeAmount.minutes(1)
  private static let maximumPause = Duration.seconds(300)

  /// Why the service is not asked now. Nil if it may be asked.
  var pauseProblem: String? {
    state.withLock { state in
      guard let until = state.pausedUntil, NIODeadline.now() < until else { return nil }
      return state.problem
    }
  }

  /// Asks a question, or joins an equal question that is on its way.
  func ask(_ question: Question) -> Task<Result<VerdictCache.Entry, NoAnswer>, Never> {
    state.withLock { state in
      if let flight = state.flights[question.key] { return flight }
      let flight = Task { await self.fly(question) }
      state.flights[question.key] = flight
      return flight
    }
  }

  private func fly(_ question: Question) async -> Result<VerdictCache.Entry, NoAnswer> {
    let answered: Result<VerdictCache.Entry, NoAnswer>
    do throws(NoAnswer) {
      let entry = try await answer(question)
      await cache.put(entry, question.key)
      answered = .success(entry)
    } catch {
      answered = .failure(error)
    }
    state.withLock { state in
      state.flights[question.key] = nil
      guard case .failure(let failure) = answered else { return }
      state.problem = failure.problem
      let pause = max(options.pauseAfterFailure, min(failure.retryAfter, Self.maximumPause))
      state.pausedUntil = .now() + TimeAmount(pause)
    }
    if case .failure(let failure) = answered { options.onProblem(failure.problem) }
    return answered
  }

  private func answer(_ question: Question) async throws(NoAnswer) -> VerdictCache.Entry {
    let deadline = NIODeadline.now() + TimeAmount(options.totalTimeout)
    let asked = VerdictQuestion(
      licenseKey: question.licenseKey, domain: question.domain, nonce: SystemRandom.hexadecimal())
    var json = JSONWriter()
    json.beginObject()
    json.member("licenseKey", asked.licenseKey)
    json.member("domain", question.domain.description)
    json.member("nonce", asked.nonce)
    json.endObject()
    let body = try await retrying(
      .init(
        path: "/v1/licenses/validate",
        headers: Self.headers(options, contentType: "application/json")
          + [("Idempotency-Key", SystemRandom.hexadecimal())],
        body: json.bytes, maximumAnswerBytes: Self.maximumAnswerBytes), deadline)
    // A body that is not a JSON object has no signature.
    guard let members = (try? JSONReader.parse(body))?.members, members.repeatedName == nil,
      let signature = members["signature"]?.text
    else { throw .untrusted }
    let payload = try await verified(signature, asked, deadline)
    guard let verdict = SignedVerdict(payload: payload) else { throw .untrusted }
    return .init(verdict: verdict, signature: signature, received: options.clock())
  }

  private func verified(
    _ signature: String, _ question: VerdictQuestion, _ deadline: NIODeadline
  ) async throws(NoAnswer) -> [UInt8] {
    var keys: JSONWebKeySet
    if let known = state.withLock(\.keys) {
      keys = known
    } else {
      keys = try await fetchKeys(deadline)
    }
    for isLast in [false, true] {
      do throws(VerdictVerifier.Refusal) {
        return try VerdictVerifier(keys: keys).verify(
          signature: signature, question: question, now: options.clock(),
          tolerance: Self.toleranceMilliseconds)
      } catch {
        // The service may have a new key.
        guard error == .token(.unknownKey), !isLast, mayFetchKeys else { throw .untrusted }
      }
      keys = try await fetchKeys(deadline)
    }
    throw .untrusted
  }

  private var mayFetchKeys: Bool {
    guard options.keys == nil else { return false }
    return state.withLock { $0.keysAsked.map { NIODeadline.now() - $0 >= Self.keysPause } ?? true }
  }

  private func fetchKeys(_ deadline: NIODeadline) async throws(NoAnswer) -> JSONWebKeySet {
    state.withLock { $0.keysAsked = .now() }
    let body = try await retrying(
      .init(
        method: "GET", path: "/.well-known/jwks.json", headers: Self.headers(options),
        maximumAnswerBytes: Self.maximumSetBytes), deadline)
    let keys: JSONWebKeySet
    do throws(JSONWebKey.Invalid) {
      keys = try JSONWebKeySet(json: body)
    } catch {
      throw .untrusted
    }
    state.withLock { $0.keys = keys }
    await cache.put(keys: body)
    return keys
  }

  /// Retries until the deadline, and returns the body of an answer with status 200.
  private func retrying(
    _ request: ServiceTransport.Request, _ deadline: NIODeadline
  ) async throws(NoAnswer) -> [UInt8] {
    var delay = Self.firstDelayMilliseconds
    for left in (0..<Self.tries).reversed() {
      let failure: NoAnswer
      do throws(NoAnswer) {
        let answer = try await transport.send(request, deadline: deadline)
        if answer.status == 200 { return answer.body }
        failure = .status(answer.status, retryAfter: answer.retryAfter)
      } catch {
        failure = error
      }
      guard failure.isTemporary, left > 0 else { throw failure }
      let jitter = Duration.milliseconds(delay * .random(in: 0.5...1))
      let pause = max(jitter, failure.retryAfter)
      delay *= 2
      guard NIODeadline.now() + TimeAmount(pause) < deadline else { throw failure }
      // The sleep is cut short if nobody waits for the question any more. The deadline bounds it in
      // any case.
      try? await Task.sleep(for: pause)
    }
    throw .connection
  }

  private static func headers(
    _ options: LicenseClientOptions, contentType: String? = nil
  ) -> [(name: String, value: String)] {
    var headers = [
      (name: "Accept", value: "application/json"),
      (name: "User-Agent", value: "license-metering-swift/\(version)"),
    ]
    if let contentType { headers.append(("Content-Type", contentType)) }
    if let token = options.token { headers.append(("Authorization", "Bearer \(token)")) }
    return headers
  }

  /// Sends a batch of usage events once.
  ///
  /// - Returns: how many the service rejected.
  static func send(
    _ batch: [UInt8], _ count: Int, _ options: LicenseClientOptions, _ transport: ServiceTransport
  ) async throws(NoAnswer) -> Int {
    let answer = try await transport.send(
      .init(
        path: "/v1/events",
        headers: headers(options, contentType: "application/cloudevents-batch+json"), body: batch,
        maximumAnswerBytes: maximumSetBytes),
      deadline: .now() + TimeAmount(options.totalTimeout))
    guard answer.status == 202 else {
      throw .status(answer.status, retryAfter: answer.retryAfter)
    }
    // An answer that cannot be read tells nothing. The batch is sent again and counts once.
    guard let members = (try? JSONReader.parse(answer.body))?.members,
      let rejected = members["rejected"]?.elements?.count ?? Optional(0), rejected <= count
    else { throw NoAnswer(problem: "untrusted", isTemporary: true) }
    return rejected
  }
}
