import Foundation
import Logging
import PostgresStore
import ServiceRuntime
import Synchronization
import WebhookDelivery

/// Writes the results of attempts, many in one transaction, because each commit waits for the disk.
///
/// The number of claims bounds its queue: nothing new is claimed while the database does not
/// answer.
final class ResultWriter: @unchecked Sendable {
  // The two closures are set once, before the thread starts. The mutex guards everything else that
  // changes.
  private enum Entry {
    case result(WebhookStore.Claim, Attempt)
    case release(WebhookStore.Claim, afterMilliseconds: Int)

    var failedEndpoint: String? {
      guard case .result(let claim, let attempt) = self, attempt.failure != nil else { return nil }
      return claim.endpoint
    }
  }

  private static let maximumBatch = 1_000

  var onOpened: @Sendable ([String]) -> Void = { _ in }
  /// Called with the endpoint of each failure that was written, or that the database refused.
  var onFailuresWritten: @Sendable ([String]) -> Void = { _ in }
  private let databaseURL: String
  private let health: HealthState
  private let metrics: DispatcherMetrics
  private let logger: Logger
  private let queue = Mutex<[Entry]>([])
  private let wakeup = Wakeup()

  init(databaseURL: String, health: HealthState, metrics: DispatcherMetrics, logger: Logger) {
    self.databaseURL = databaseURL
    self.health = health
    self.metrics = metrics
    self.logger = logger
  }

  func add(_ claim: WebhookStore.Claim, _ attempt: Attempt) {
    queue.withLock { $0.append(.result(claim, attempt)) }
    wakeup.wake()
  }

  /// Gives back claims that were never tried. They are due after the given time.
  func release(_ claims: [WebhookStore.Claim], afterMilliseconds: Int = 0) {
    guard !claims.isEmpty else { return }
    queue.withLock {
      $0.append(contentsOf: claims.map { .release($0, afterMilliseconds: afterMilliseconds) })
    }
    wakeup.wake()
  }

  /// Stops the thread once the queue is written, if the database allows it.
  func stop() { wakeup.stop() }

  func start() -> WorkerThread { WorkerThread("writer") { self.work() } }

  private func work() {
    let pulse = health.heartbeat("writer")
    defer { pulse.rest() }
    var kept = KeptConnection(
      url: databaseURL, application: "webhook-dispatcher-write", checksSchema: false)
    while true {
      pulse.rest()
      let goesOn = wakeup.sleep(milliseconds: 1_000)
      while true {
        pulse.beat()
        let batch = queue.withLock { Array($0.prefix(Self.maximumBatch)) }
        if batch.isEmpty { break }
        do {
          try writeApart(batch, WebhookStore(kept.open()))
          queue.withLock { $0.removeFirst(batch.count) }
          onFailuresWritten(batch.compactMap(\.failedEndpoint))
          health.report("results", problem: nil)
        } catch {
          metrics.databaseFailures.increment()
          health.report("results", problem: "\(error)")
          logger.warning(
            "results of attempts wait for the database", metadata: ["error": "\(error)"])
          kept.closeIfLost()
          // Leases end by themselves. Whatever cannot be written now is sent again by another
          // process.
          if !goesOn || !wakeup.pause(milliseconds: 200) { return }
        }
      }
      if !goesOn { return }
    }
  }

  /// Writes each result alone, so that one that the database refuses does not hold up the others.
  private func writeApart(_ batch: [Entry], _ store: WebhookStore) throws {
    do {
      try write(batch, store)
    } catch let error as PostgresError where !error.isRetriable {
      guard batch.count > 1 else {
        logger.error(
          "the database refuses the result of an attempt", metadata: ["error": "\(error)"])
        return
      }
      for entry in batch { try writeApart([entry], store) }
    }
  }

  private func write(_ batch: [Entry], _ store: WebhookStore) throws {
    var attempts: [(claim: WebhookStore.Claim, attempt: Attempt)] = []
    var released: [WebhookStore.Release] = []
    for entry in batch {
      switch entry {
      case .release(let claim, let wait):
        released.append(
          .init(deliveryID: claim.deliveryID, lease: claim.lease, afterMilliseconds: wait))
      case .result(let claim, let attempt):
        attempts.append((claim, attempt))
      }
    }
    let stopped = try store.connection.transaction {
      let (stopped, urls) = try judge(attempts, store)
      try store.record(
        attempts.map { claim, attempt in
          let url = urls[claim.endpoint] ?? claim.url
          return Self.result(claim, attempt, hasMoved: url != claim.url)
        })
      try store.release(released)
      return stopped
    }
    if !stopped.isEmpty { onOpened(stopped) }
  }

  /// Updates the endpoints' breakers. This comes before the deliveries, because every transaction
  /// locks in this order.
  ///
  /// The result of an attempt at an address that the endpoint does not have any more says nothing
  /// about its new one, which has a closed breaker and was perhaps never called.
  ///
  /// - Returns: the endpoints that nothing may be sent to for now, and the addresses of the active
  ///   endpoints with a failure.
  private func judge(
    _ attempts: [(claim: WebhookStore.Claim, attempt: Attempt)], _ store: WebhookStore
  ) throws -> (stopped: [String], urls: [String: String]) {
    let byEndpoint = Dictionary(grouping: attempts, by: \.claim.endpoint)
    let failing = byEndpoint.filter { $0.value.contains { $0.attempt.outcome != .success } }
    try store.markHealthy(
      byEndpoint.filter { failing[$0.key] == nil }.flatMap { endpoint, attempts in
        Set(attempts.map(\.claim.url)).map { (endpoint, $0) }
      })
    guard !failing.isEmpty else { return ([], [:]) }
    var stopped: [String] = []
    let (now, states) = try store.lockHealth(of: Array(failing.keys))
    for state in states {
      let reports = (failing[state.endpoint] ?? []).filter { $0.claim.url == state.url }
        .map { EndpointHealth.Report($0.attempt.outcome, isProbe: $0.claim.isProbe) }
      guard !reports.isEmpty else { continue }
      var health = EndpointHealth(
        consecutiveFailures: state.consecutiveFailures,
        failingSinceMilliseconds: state.failingSinceMilliseconds,
        openUntilMilliseconds: state.openUntilMilliseconds)
      switch health.take(reports, atMilliseconds: now) {
      case .disable(let reason):
        _ = try EndpointStore(store.connection).disable(
          state.endpoint, reason: reason.rawValue, withAlert: true)
        stopped.append(state.endpoint)
      case .none:
        try store.setHealth(
          .init(
            endpoint: state.endpoint, url: state.url,
            consecutiveFailures: health.consecutiveFailures,
            failingSinceMilliseconds: health.failingSinceMilliseconds,
            openUntilMilliseconds: health.openUntilMilliseconds))
        if health.openUntilMilliseconds != nil { stopped.append(state.endpoint) }
      }
    }
    return (stopped, Dictionary(uniqueKeysWithValues: states.map { ($0.endpoint, $0.url) }))
  }

  /// - Parameter hasMoved: whether the endpoint has another address now. Then the delivery is tried
  ///   there, even if the old address is gone for good or asked to be left alone.
  private static func result(
    _ claim: WebhookStore.Claim, _ attempt: Attempt, hasMoved: Bool
  ) -> WebhookStore.Result {
    let retry: Int64? =
      switch attempt.outcome {
      case .success: nil
      case .gone where !hasMoved: nil
      case .failure, .paused, .gone:
        RetrySchedule.delayMilliseconds(
          failures: claim.retryStep + 1, jitter: .random(in: -1...1),
          retryAfterMilliseconds: hasMoved ? nil : attempt.retryAfterMilliseconds)
      }
    return WebhookStore.Result(
      deliveryID: claim.deliveryID, lease: claim.lease, succeeded: attempt.failure == nil,
      retryMilliseconds: retry, atMilliseconds: attempt.beganMilliseconds,
      statusCode: attempt.statusCode, error: attempt.error,
      durationMilliseconds: attempt.durationMilliseconds, response: attempt.response)
  }
}
