import AnomalyDetection
import ServiceRuntime

/// The detector's own metrics. Its consumers have theirs.
final class DetectorMetrics: Sendable {
  private let registry: MetricsRegistry
  let checkpointBytes: Counter

  init(_ registry: MetricsRegistry) {
    self.registry = registry
    checkpointBytes = registry.counter(
      "meter_checkpoint_bytes_total", help: "Bytes of partitions' states that were stored.")
    for reason in ["burst", "domain_mismatch", "domain_spread", "canceled_use"] { count(reason, 0) }
    for direction in UsageAnomaly.Direction.allCases { count("usage_\(direction.name)", 0) }
    for cause in ["too_old"] + AlertBudget.Cause.allCases.map(\.rawValue) { suppressed(cause, 0) }
  }

  func states(of topic: String, licenses: Int, bytes: Int) {
    registry.gauge(
      "meter_detector_licenses", help: "Licenses that the detector keeps a state for.",
      labels: [("topic", topic)]
    ).set(licenses)
    registry.gauge(
      "meter_detector_bytes", help: "Memory of the states.", labels: [("topic", topic)]
    ).set(bytes)
  }

  func found(_ finding: Finding) {
    switch finding.kind {
    case .burst: count("burst")
    case .domains(.domainMismatch), .domains(.mismatchDigest): count("domain_mismatch")
    case .domains(.domainSpread), .domains(.slowSpread): count("domain_spread")
    case .domains(.canceledUse): count("canceled_use")
    }
  }

  func found(_ anomaly: UsageAnomaly) {
    if !anomaly.hasEnded { count("usage_\(anomaly.direction.name)") }
  }

  private func count(_ reason: String, _ count: Int = 1) {
    registry.counter(
      "meter_findings_total", help: "Findings of suspicious activity. A few may be counted twice.",
      labels: [("reason", reason)]
    ).increment(by: count)
  }

  func suppressed(_ cause: String, _ count: Int = 1) {
    registry.counter(
      "meter_findings_suppressed_total", help: "Findings that raised no alert, by cause.",
      labels: [("cause", cause)]
    ).increment(by: count)
  }
}
