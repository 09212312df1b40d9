import EventPublisher
import Licensing
import ServiceRuntime

/// The metrics of the validation service.
final class ValidationMetrics: Sendable {
  private let verdicts: [Verdict.Code: Counter]
  private let seconds: Histogram
  private let answers: [Int: Counter]
  private let otherAnswers: Counter
  let delayed: Counter

  init(_ registry: MetricsRegistry) {
    var verdicts: [Verdict.Code: Counter] = [:]
    for code in Verdict.Code.allCases {
      verdicts[code] = registry.counter(
        "meter_validations_total", help: "Validations, by verdict.",
        labels: [("code", code.rawValue)])
    }
    self.verdicts = verdicts
    seconds = registry.histogram(
      "meter_validation_seconds", help: "Time from a request's last byte to its signed answer.",
      buckets: [
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5,
      ])
    var answers: [Int: Counter] = [:]
    for status in [200, 202, 204, 400, 401, 403, 404, 405, 413, 415, 422, 429, 503] {
      answers[status] = registry.counter(
        "meter_http_answers_total", help: "Answers, by status.",
        labels: [("status", String(status))])
    }
    self.answers = answers
    otherAnswers = registry.counter(
      "meter_http_answers_total", help: "Answers, by status.", labels: [("status", "other")])
    delayed = registry.counter(
      "meter_rate_limited_total", help: "Requests that a rate limit delayed.")
  }

  func answered(_ status: Int) { (answers[status] ?? otherAnswers).increment() }

  func judged(_ code: Verdict.Code, microseconds: Int64) {
    verdicts[code]?.increment()
    seconds.observe(Double(microseconds) / 1_000_000)
  }

  /// Registers the publisher's numbers, which are read whenever Prometheus asks.
  /// - Parameter spoolMaximumBytes: the largest size of the spool.
  static func register(
    _ publisher: EventPublisher, spoolMaximumBytes: Int, on registry: MetricsRegistry
  ) {
    struct Gauges {
      let accepted: Gauge
      let pending: Gauge
      let dropped: Gauge
    }
    let topics = ["usage", "validations"].map { topic in
      let labels = [("topic", topic)]
      return Gauges(
        accepted: registry.copiedCounter(
          "meter_spool_accepted_total",
          help: "Events given to the spool over its life, including dropped ones.", labels: labels),
        pending: registry.gauge(
          "meter_spool_pending", help: "Events in the spool that Kafka has not confirmed.",
          labels: labels),
        dropped: registry.copiedCounter(
          "meter_spool_dropped_total", help: "Events that the spool lost over its life.",
          labels: labels))
    }
    let bytes = registry.gauge("meter_spool_bytes", help: "Size of the spool's files.")
    registry.gauge(
      "meter_spool_maximum_bytes",
      help: "Largest size of the spool's files (METER_SPOOL_MAX_BYTES)."
    ).set(spoolMaximumBytes)
    let restarts = registry.copiedCounter(
      "meter_spool_restarts_total", help: "How often sending started over.")
    let invalid = registry.copiedCounter(
      "meter_spool_invalid_total", help: "Events that broke the contract.")
    registry.onScrape {
      let now = publisher.statistics
      for (gauges, topic) in zip(topics, [now.usage, now.validations]) {
        gauges.accepted.set(Int(topic.accepted))
        gauges.pending.set(Int(topic.pending))
        gauges.dropped.set(Int(topic.dropped))
      }
      bytes.set(now.spoolBytes)
      restarts.set(Int(now.restarts))
      invalid.set(Int(now.invalid))
    }
  }
}
