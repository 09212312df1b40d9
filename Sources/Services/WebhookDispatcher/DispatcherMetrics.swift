package import ServiceRuntime
import WebhookDelivery

/// The dispatcher's metrics.
package final class DispatcherMetrics: Sendable {
  private static let secondsBuckets = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60,
  ]

  private let attempts: [String: Counter]
  let attemptSeconds: Histogram
  /// The time from a new delivery being due to its first claim.
  let waitSeconds: Histogram
  let claims: Counter
  let expired: Counter
  let notices: Counter
  let databaseFailures: Counter
  let underway: Gauge
  let waiting: Gauge
  let pending: Gauge
  let oldestDueSeconds: Gauge
  let endpoints: [String: Gauge]

  package init(_ registry: MetricsRegistry) {
    var attempts: [String: Counter] = [:]
    // All series start at 0, because an alert on an increase needs a first value.
    for outcome in ["delivered"] + Attempt.Failure.allCases.map(\.rawValue) {
      attempts[outcome] = registry.counter(
        "meter_webhook_attempts_total", help: "Attempts, by outcome.",
        labels: [("outcome", outcome)])
    }
    self.attempts = attempts
    attemptSeconds = registry.histogram(
      "meter_webhook_attempt_seconds", help: "Duration of an attempt.", buckets: Self.secondsBuckets
    )
    waitSeconds = registry.histogram(
      "meter_webhook_wait_seconds", help: "Time from a delivery being due to its claim.",
      buckets: Self.secondsBuckets)
    claims = registry.counter("meter_webhook_claimed_total", help: "Deliveries claimed.")
    expired = registry.counter(
      "meter_webhook_expired_claims_total",
      help: "Claims that were given back because they waited too long in this process.")
    notices = registry.counter(
      "meter_expiry_notices_total", help: "Expiry notices raised by this process.")
    databaseFailures = registry.counter(
      "meter_webhook_database_failures_total",
      help: "Statements that failed and were tried again.")
    underway = registry.gauge("meter_webhook_underway", help: "Requests in progress.")
    waiting = registry.gauge(
      "meter_webhook_waiting", help: "Claimed deliveries whose request has not begun.")
    pending = registry.gauge(
      "meter_webhook_pending", help: "Pending deliveries of all dispatchers.")
    oldestDueSeconds = registry.gauge(
      "meter_webhook_oldest_due_seconds",
      help:
        "How long the oldest delivery has been due. Endpoints with an open breaker do not count.")
    var endpoints: [String: Gauge] = [:]
    for state in ["closed", "failing", "open", "disabled"] {
      endpoints[state] = registry.gauge(
        "meter_webhook_endpoints", help: "Endpoints, by the state of their breaker.",
        labels: [("state", state)])
    }
    self.endpoints = endpoints
  }

  func count(_ attempt: Attempt) {
    attempts[attempt.failure?.rawValue ?? "delivered"]?.increment()
    attemptSeconds.observe(Double(attempt.durationMilliseconds) / 1_000)
  }
}
