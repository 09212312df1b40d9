import EventPublisher
import HTTPListening
import Licensing
import Metering
import NIOCore
import NIOHTTP1
import PostgresStore
import ServiceRuntime
import Synchronization

/// Answers the requests of the API.
///
/// `answer` is a function of the request and of what is known. If it has to wait for something, it
/// throws that as a `Need`, and is called again from the start once it is there. The usual request
/// for a license in memory is therefore answered in one synchronous call.
final class ValidationAPI: Sendable {
  struct Settings: Sendable {
    var source = "/validation"
    var requiresKey = false
    var keyRate = RateLimiter.Rate(perSecond: 10_000, burst: 20_000)
    var anonymousRate = RateLimiter.Rate(perSecond: 1_000, burst: 5_000)
    /// The rate of all requests without a token from one address.
    var addressRate = RateLimiter.Rate(perSecond: 20_000, burst: 100_000)
    /// The rate of those among them that ask for licenses that do not exist.
    var unknownRate = RateLimiter.Rate(perSecond: 200, burst: 2_000)
    var maximumDelayed = 10_000
    var eventRules = ReportedEvents.Rules()
    var address = ClientAddress(trustedProxies: [], detail: .truncated)
  }

  /// What an answer waits for.
  enum Need: Error {
    /// A token, by its hash.
    case token(String)
    case licenses([Identifier])
    /// A delay in microseconds, because the caller asks too often.
    case pause(Int64, Pause)
  }

  /// The limit that delays a request.
  enum Pause {
    case rate
    /// The limit of unknown licenses, before the database is asked for another one.
    case lookup
    /// The same limit, for a license that turned out to be unknown.
    case unknown
  }

  /// The decision about a large body before it arrives.
  enum Admission {
    case granted
    case refused(Problem)
    case later(@Sendable () async -> Problem?)
  }

  /// What has been waited for. Each need is met once, so repeating the call comes to an end.
  struct Gathered {
    var token: LicenseDirectory.Tokens.Lookup?
    var licenses: [Identifier: LicenseDirectory.Licenses.Lookup] = [:]
    /// The rate limit counts a request only once.
    var isCounted = false
    /// So does the rate limit of unknown licenses.
    var isUnknownCounted = false
    var hasWaitedForUnknown = false
  }

  let settings: Settings
  let directory: LicenseDirectory
  let evaluator: LicenseEvaluator
  let signer: VerdictSigner
  let publisher: EventPublisher
  let limiter = RateLimiter()
  let idempotencyKeys = IdempotencyKeys()
  let metrics: ValidationMetrics
  let keySet: [UInt8]
  let delayed = Atomic<Int>(0)
  private let largeBodies = LargeBodies()

  static let validatePath = "/v1/licenses/validate"
  static let eventsPath = "/v1/events"

  init(
    settings: Settings, directory: LicenseDirectory, evaluator: LicenseEvaluator,
    signer: VerdictSigner,
    publisher: EventPublisher, keySet: [UInt8], metrics: ValidationMetrics
  ) {
    self.settings = settings
    self.directory = directory
    self.evaluator = evaluator
    self.signer = signer
    self.publisher = publisher
    self.keySet = keySet
    self.metrics = metrics
  }

  /// The largest body that the path accepts.
  static func maximumBytes(_ path: String) -> Int {
    path == eventsPath ? ReportedEvents.maximumBytes : ValidateRequest.maximumBytes
  }

  /// Called once for each connection.
  func client(_ peer: SocketAddress?) -> ClientAddress.Client { settings.address.client(peer) }

  /// Answers, and counts, a request that is refused before it is complete.
  func refusal(_ problem: Problem, path: String) -> APIAnswer {
    metrics.answered(Int(problem.status.code))
    return path == Self.validatePath ? Self.openToBrowsers(problem.answer) : problem.answer
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

  /// Whether a large body may be sent. Only a caller whom the answer can serve gets room for it.
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

  /// The caller whose share of the memory for bodies a request uses; nil if the caller is not known.
  func bodyOwner(_ peer: ClientAddress.Client, _ fields: RequestFields) -> AddressGroup? {
    let client = settings.address.resolve(peer, forwardedFor: fields.forwardedFor)
    return client.isTrustedProxy ? nil : client.group
  }

  private func meet(_ need: Need, _ gathered: inout Gathered) async {
    switch need {
    case .token(let hash): gathered.token = await directory.tokens.lookup(hash)
    case .licenses(let ids):
      // Licenses are looked up after the rate limit.
      gathered.isCounted = true
      // All of them are asked for together, because a loader reads waiting keys together.
      await withTaskGroup(of: (Identifier, LicenseDirectory.Licenses.Lookup).self) {
        [directory] group in
        for id in ids { group.addTask { (id, await directory.licenses.lookup(id)) } }
        for await (id, lookup) in group { gathered.licenses[id] = lookup }
      }
    case .pause(let microseconds, let pause):
      // It is canceled when the service stops, which only makes the delay shorter.
      try? await Task.sleep(nanoseconds: UInt64(microseconds) * 1_000)
      delayed.subtract(1, ordering: .relaxed)
      switch pause {
      case .rate: gathered.isCounted = true
      case .lookup: gathered.hasWaitedForUnknown = true
      case .unknown: (gathered.hasWaitedForUnknown, gathered.isUnknownCounted) = (true, true)
      }
    }
  }

  /// Counts the answer.
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
      ?? Problem(
        status: .internalServerError, code: "internal", detail: "An internal error occurred.")
  }

}
