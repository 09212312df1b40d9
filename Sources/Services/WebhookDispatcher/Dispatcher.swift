import Foundation
package import Logging
import Metering
import PostgresStore
import ServiceLifecycle
package import ServiceRuntime
import Synchronization
import WebhookDelivery

/// A claim that this process holds.
package struct Claimed: Sendable {
  let claim: WebhookStore.Claim
  /// The monotonic time in milliseconds at which the lease was asked for.
  let since: Int64
}

/// Takes deliveries from PostgreSQL and sends them until it is stopped.
///
/// Invariants:
/// - A delivery is sent only if its lease lasts longer than an attempt can. Nobody else can take it
///   meanwhile.
/// - Results wait in memory until they are written. If the process dies before, the leases end, and
///   another process sends the same deliveries again under the same `webhook-id`. Each delivery is
///   sent at least once.
/// - Three threads block, each on its own connection: `listener` waits for NOTIFY, `claimer` claims
///   and starts requests, `writer` writes results. Requests run on tasks. `DeliveryScheduler`
///   bounds what is claimed and what runs.
package final class Dispatcher: Service {
  private struct State {
    var scheduler: DeliveryScheduler<Claimed>
    var tasks: [Int64: Task<Void, Never>] = [:]
    /// The size of the last claim. A full one means that there is more.
    var lastClaimed = 0
    var isStopping = false
  }

  let settings: DispatcherSettings
  let health: HealthState
  let metrics: DispatcherMetrics
  let logger: Logger
  private let client: WebhookClient
  private let state: Mutex<State>
  private let claimerWakeup = Wakeup()
  private let listenerWakeup = Wakeup()
  private let writer: ResultWriter
  private let keys: KeyCheck
  /// The pause is short, because a name whose turn did not come has already waited for the time
  /// limit.
  private static let postponedMilliseconds = 1_000
  /// The pause is long, because trying is of no use until somebody has corrected the key.
  private static let secretPauseMilliseconds = 10_000

  package init(
    settings: DispatcherSettings, resolver: any NameResolver, health: HealthState,
    metrics: DispatcherMetrics, logger: Logger
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    client = WebhookClient(settings: settings.client, box: settings.box, resolver: resolver)
    state = Mutex(State(scheduler: DeliveryScheduler(limits: settings.limits)))
    writer = ResultWriter(
      databaseURL: settings.databaseURL, health: health, metrics: metrics, logger: logger)
    keys = KeyCheck(box: settings.box, health: health, logger: logger)
    health.report("database", problem: "not started")
  }

  package func run() async throws {
    await withTaskCancellationHandler {
      await withGracefulShutdownHandler {
        await work()
      } onGracefulShutdown: {
        self.stop()
      }
    } onCancel: {
      self.stop()
    }
  }

  private func stop() {
    claimerWakeup.stop()
    listenerWakeup.stop()
  }

  private func work() async {
    writer.onOpened = { [weak self] endpoints in self?.withdraw(endpoints) }
    writer.onFailuresWritten = { [weak self] endpoints in self?.resume(endpoints) }
    let writerThread = writer.start()
    let upkeep = DeliveryUpkeep(
      dispatcher: self, wakeup: listenerWakeup, pulse: health.heartbeat("upkeep"))
    let threads = [
      WorkerThread("listener") { self.listen() },
      WorkerThread("upkeep") { upkeep.run() },
    ]
    let sweeper = Task {
      while !Task.isCancelled {
        do { try await Task.sleep(for: .seconds(10)) } catch { return }
        await self.client.closeIdle()
      }
    }
    await withCheckedContinuation { (finished: CheckedContinuation<Void, Never>) in
      _ = WorkerThread("claimer") {
        self.claimUntilStopped()
        finished.resume()
      }
    }
    sweeper.cancel()
    await drain()
    await withCheckedContinuation { (finished: CheckedContinuation<Void, Never>) in
      _ = WorkerThread("ending") {
        self.writer.stop()
        for thread in [writerThread] + threads { _ = thread.join(seconds: 2) }
        finished.resume()
      }
    }
    await client.close()
  }

  /// Gives back what has not begun, and lets requests end for a while. Then it cuts the rest, which
  /// is given back too.
  private func drain() async {
    let waiting = state.withLock { state in
      state.isStopping = true
      return state.scheduler.withdrawAll()
    }
    writer.release(waiting.map(\.claim))
    let end = Int64(Monotonic.milliseconds) + 4_000
    while Int64(Monotonic.milliseconds) < end, state.withLock({ !$0.tasks.isEmpty }) {
      // Cancellation cuts the wait short. The remaining requests are cut too.
      do { try await Task.sleep(for: .milliseconds(20)) } catch { break }
    }
    let left = state.withLock { Array($0.tasks.values) }
    for task in left { task.cancel() }
    for task in left { await task.value }
  }

  // MARK: Listening

  private func listen() {
    // Without the listener, deliveries wait for the poll.
    let pulse = health.heartbeat("listener", .helpful)
    defer { pulse.rest() }
    while !listenerWakeup.isStopped {
      pulse.beat()
      do {
        let connection = try PostgresConnection(
          url: settings.databaseURL, application: "webhook-dispatcher-listen")
        try connection.execute("listen \(WebhookStore.channel)")
        // Alerts may have been raised while nobody was listening.
        claimerWakeup.wake()
        while !listenerWakeup.isStopped {
          pulse.beat()
          if try !connection.notifications(waitMilliseconds: 1_000).isEmpty { claimerWakeup.wake() }
        }
      } catch {
        // Deliveries go on by the poll, and the claimer reports the database.
        metrics.databaseFailures.increment()
        if !listenerWakeup.pause(milliseconds: 500) { return }
      }
    }
  }

  // MARK: Claiming

  private func claimUntilStopped() {
    let pulse = health.heartbeat("claimer")
    defer { pulse.rest() }
    var pause = 200
    while !claimerWakeup.isStopped {
      pulse.beat()
      do {
        let connection = try PostgresConnection.toKnownSchema(
          url: settings.databaseURL, application: "webhook-dispatcher-claim",
          statementTimeoutMilliseconds: 30_000)
        health.report("database", problem: nil)
        pause = 200
        keys.distrust()
        try claim(WebhookStore(connection), pulse)
      } catch {
        metrics.databaseFailures.increment()
        health.report("database", problem: "\(error)")
        logger.error(
          "deliveries cannot be claimed now, so the dispatcher tries again",
          metadata: ["error": "\(error)"])
        start()
        if !claimerWakeup.pause(milliseconds: pause) { break }
        pause = min(pause * 2, 2_000)
      }
    }
    health.report("database", problem: "stopping")
  }

  private func claim(_ store: WebhookStore, _ pulse: Heartbeat) throws {
    while !claimerWakeup.isStopped {
      pulse.beat()
      let began = Int64(Monotonic.milliseconds)
      let (capacity, room, rooms) = state.withLock {
        ($0.scheduler.capacity, $0.scheduler.defaultRoom, $0.scheduler.rooms())
      }
      var claims: [WebhookStore.Claim] = []
      if try capacity > 0 && keys.allowsClaims(EndpointStore(store.connection)) {
        claims = try store.claim(
          most: min(capacity, 512), perEndpoint: room, rooms: rooms,
          leaseSeconds: settings.leaseSeconds)
      }
      state.withLock { state in
        for claim in claims {
          state.scheduler.add(Claimed(claim: claim, since: began), endpoint: claim.endpoint)
        }
        state.lastClaimed = claims.count
        state.scheduler.forgetIdle(keeping: 20_000)
      }
      metrics.claims.increment(by: claims.count)
      for claim in claims where claim.retryStep == 0 {
        metrics.waitSeconds.observe(claim.dueSecondsAgo)
      }
      start()
      // Results come in bursts, so one claim serves those of a few milliseconds.
      if !claims.isEmpty, !claimerWakeup.pause(milliseconds: 2) { return }
      let underway = state.withLock { $0.scheduler.underway }
      pulse.rest()
      claimerWakeup.sleep(
        milliseconds: underway > 0 ? min(100, settings.pollMilliseconds) : settings.pollMilliseconds
      )
    }
  }

  // MARK: Sending

  /// Begins all deliveries that may begin.
  private func start() {
    let now = Int64(Monotonic.milliseconds)
    let usable = Int64(settings.leaseSeconds * 1_000 - settings.client.timeoutMilliseconds)
    state.withLock { state in
      guard !state.isStopping else { return }
      state.scheduler.tick(now: now)
      var begun = state.scheduler.next(now: now)
      while !begun.isEmpty {
        var hasExpired = false
        for (number, work) in begun {
          if now - work.since >= usable {
            // Its lease could end while it is being sent. It goes back, because a lease that simply
            // ends counts as a failed attempt.
            metrics.expired.increment()
            state.scheduler.finished(number, now: now, failed: nil)
            writer.release([work.claim])
            hasExpired = true
          } else {
            state.tasks[number] = Task { await self.send(number, work.claim) }
          }
        }
        begun = hasExpired ? state.scheduler.next(now: now) : []
      }
      metrics.underway.set(state.scheduler.underway)
      metrics.waiting.set(state.scheduler.waiting)
    }
  }

  private func send(_ number: Int64, _ claim: WebhookStore.Claim) async {
    let message = WebhookMessage(
      endpoint: claim.endpoint, webhookID: claim.webhookID, url: claim.url,
      sealedSecrets: claim.sealedSecrets,
      body: WebhookBody.make(
        id: claim.webhookID, timestamp: claim.occurredAt, type: claim.type, data: claim.data,
        url: settings.pages?.alert(claim.alertID, isForCustomer: claim.isForCustomer)),
      retryStep: claim.retryStep,
      trace: claim.trace.map {
        WebhookTrace.context(of: $0, webhookID: claim.webhookID, attempt: claim.attempts + 1)
      })
    let span = message.trace.map { AttemptSpan(claim, as: $0) }
    let attempt = await client.attempt(message)
    if attempt.isAttempt { span?.end(attempt) }
    if attempt.failure != .canceled { metrics.count(attempt) }
    if attempt.isAttempt {
      // The hold must exist before the writer can end it.
      if attempt.failure != nil {
        state.withLock { $0.scheduler.hold(endpoint: claim.endpoint) }
      }
      writer.add(claim, attempt)
    } else {
      takeBack(claim, attempt)
    }
    let (wantsMore, back) = state.withLock { state in
      state.tasks[number] = nil
      let failures = state.scheduler.finished(
        number, now: Int64(Monotonic.milliseconds),
        failed: attempt.isAttempt ? attempt.failure != nil : nil)
      // The breaker opens when these failures are written. Other deliveries to this endpoint go
      // back now.
      var isPaused = failures >= EndpointHealth.failuresToOpen
      if case .paused(let wait) = attempt.outcome { isPaused = isPaused || wait > 0 }
      let back = isPaused ? state.scheduler.withdraw(endpoint: claim.endpoint) : []
      return (state.scheduler.waiting <= state.lastClaimed / 2 && !state.isStopping, back)
    }
    writer.release(back.map(\.claim))
    start()
    if wantsMore { claimerWakeup.wake() }
  }

  /// Gives back a claim whose request never began. No failure is counted.
  private func takeBack(_ claim: WebhookStore.Claim, _ attempt: Attempt) {
    switch attempt.failure {
    case .secret:
      keys.distrust()
      writer.release([claim], afterMilliseconds: Self.secretPauseMilliseconds)
    case .postponed: writer.release([claim], afterMilliseconds: Self.postponedMilliseconds)
    default: writer.release([claim])
    }
  }

  /// Called when failures of these endpoints are written. From now on the database says whether
  /// anything may be sent.
  private func resume(_ endpoints: [String]) {
    guard !endpoints.isEmpty else { return }
    state.withLock { state in
      for endpoint in endpoints { state.scheduler.resume(endpoint: endpoint) }
    }
    start()
    claimerWakeup.wake()
  }

  /// Called when the breakers of these endpoints have opened, or they are disabled. Their waiting
  /// deliveries go back.
  private func withdraw(_ endpoints: [String]) {
    let back = state.withLock { state in
      endpoints.flatMap { state.scheduler.withdraw(endpoint: $0) }
    }
    writer.release(back.map(\.claim))
  }
}
