import Logging
import PostgresStore
import ServiceRuntime
import Synchronization
import WebhookDelivery

/// Checks whether `METER_ENCRYPTION_KEY` opens the stored secrets. With a wrong key the service
/// claims nothing and says why, and no endpoint gets failures.
///
/// All stored secrets are tried at the start, and again after one did not open, at most once in a
/// few seconds: somebody may be changing the key at that moment. Only the claimer's thread calls
/// `allowsClaims`.
final class KeyCheck: Sendable {
  private static let pageSize = 5_000
  private static let againMilliseconds: Int64 = 5_000

  private struct State {
    var isDistrusted = true
    var lastCheck: Int64?
    var opensNone = false
    var told: String?
  }

  private let box: SecretBox
  private let health: HealthState
  private let logger: Logger
  private let state = Mutex(State())

  init(box: SecretBox, health: HealthState, logger: Logger) {
    self.box = box
    self.health = health
    self.logger = logger
  }

  /// Makes the next claim check first. It is called when a secret did not open, or when the
  /// database may be another one.
  func distrust() { state.withLock { $0.isDistrusted = true } }

  func allowsClaims(_ store: EndpointStore) throws(PostgresError) -> Bool {
    let now = Int64(Monotonic.milliseconds)
    let (isDue, openedNone) = state.withLock { state in
      let isDue =
        state.isDistrusted && state.lastCheck.map { now - $0 >= Self.againMilliseconds } ?? true
      return (isDue, state.opensNone)
    }
    guard isDue else { return !openedNone }
    let (opened, closed) = try count(store)
    let problem = Self.problem(opened: opened, closed: closed)
    let opensNone = opened == 0 && closed > 0
    let isNews = state.withLock { state in
      defer { state.told = problem }
      state.lastCheck = now
      state.opensNone = opensNone
      // The check is repeated while some secret does not open.
      state.isDistrusted = closed > 0
      return state.told != problem
    }
    health.report("encryption_key", problem: opensNone ? problem : nil)
    health.degraded("encryption_key", problem: opensNone ? nil : problem)
    if isNews {
      if let problem {
        logger.error("\(problem)")
      } else {
        logger.info("METER_ENCRYPTION_KEY opens every stored secret")
      }
    }
    return !opensNone
  }

  private static func problem(opened: Int, closed: Int) -> String? {
    guard closed > 0 else { return nil }
    let what =
      opened == 0
      ? "none of the \(closed) stored secrets" : "\(opened) of \(opened + closed) stored secrets"
    return "METER_ENCRYPTION_KEY opens \(what). Deliveries that need the others wait, and this "
      + "counts as no failure. Set the key that sealed them. During a change, set both keys as "
      + "new,old (see meterctl key reseal)"
  }

  private func count(_ store: EndpointStore) throws(PostgresError) -> (opened: Int, closed: Int) {
    var (opened, closed, last) = (0, 0, Int64(0))
    while true {
      let page = try store.secrets(after: last, limit: Self.pageSize)
      for secret in page {
        // The reason why a secret does not open does not matter here. It is the same for all of
        // them.
        if (try? box.open(secret.sealed, endpoint: secret.endpoint)) != nil {
          opened += 1
        } else {
          closed += 1
        }
        last = secret.id
      }
      if page.count < Self.pageSize { return (opened, closed) }
    }
  }
}
