import Logging
import PostgresStore
import ServiceRuntime

/// Work that every dispatcher does once a second. Each step can run in several processes at the
/// same time.
struct DeliveryUpkeep {
  /// The most rows of one pass. More notices would flood their receivers and make the transaction
  /// long.
  private static let noticesAPass = 500
  private static let discardedAPass = 5_000
  private static let retainedAPass = 5_000
  private static let passMilliseconds = 1_000

  let dispatcher: Dispatcher
  let wakeup: Wakeup
  let pulse: Heartbeat

  func run() {
    var kept = KeptConnection(
      url: dispatcher.settings.databaseURL, application: "webhook-dispatcher-keep",
      checksSchema: false)
    var sweepDue: Int64 = 0
    var retentionDue: Int64 = 0
    var retained: Int64 = 0
    defer { pulse.rest() }
    while !wakeup.isStopped {
      pulse.beat()
      do {
        let open = try kept.open()
        let store = WebhookStore(open)
        // Both run in one transaction, so that a pass with nothing to do costs a single commit.
        try open.transaction {
          _ = try store.discard(most: Self.discardedAPass)
          try report(store)
        }
        let now = Int64(Monotonic.milliseconds)
        if now >= sweepDue {
          let raised = try store.raiseExpiryNotices(most: Self.noticesAPass)
          dispatcher.metrics.notices.increment(by: raised)
          // After a full pass there is more to raise, and the next pass in a second goes on with
          // it.
          if raised < Self.noticesAPass {
            sweepDue = now + Int64(dispatcher.settings.expirySweepMilliseconds)
          }
        }
        if now >= retentionDue {
          try store.retainSecrets()
          // The next pass in a second goes on behind this one. A walk that has reached the end
          // begins again later.
          let reached = try store.retain(
            days: dispatcher.settings.retentionDays, after: retained, most: Self.retainedAPass)
          retained = reached ?? 0
          if reached == nil { retentionDue = now + 600_000 }
        }
      } catch {
        dispatcher.metrics.databaseFailures.increment()
        dispatcher.logger.warning(
          "the upkeep of deliveries failed and is tried again", metadata: ["error": "\(error)"])
        kept.closeIfLost()
      }
      if !wakeup.pause(milliseconds: Self.passMilliseconds) { return }
    }
  }

  private func report(_ store: WebhookStore) throws {
    let backlog = try store.backlog()
    let metrics = dispatcher.metrics
    metrics.pending.set(Int(backlog.pending))
    metrics.oldestDueSeconds.set(backlog.oldestDueSeconds)
    metrics.endpoints["closed"]?.set(Int(backlog.closed))
    metrics.endpoints["failing"]?.set(Int(backlog.failing))
    metrics.endpoints["open"]?.set(Int(backlog.open))
    metrics.endpoints["disabled"]?.set(Int(backlog.disabled))
  }
}
