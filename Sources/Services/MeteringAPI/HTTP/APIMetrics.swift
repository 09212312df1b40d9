import ServiceRuntime

/// The metrics of the service's requests.
struct APIMetrics: Sendable {
  private let registry: MetricsRegistry

  private static let buckets = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10]

  init(_ registry: MetricsRegistry) { self.registry = registry }

  /// - Parameter route: the route's template, such as `GET /v1/usage`. A stranger's paths would
  ///   fill memory.
  func answered(_ route: String, _ status: Int, _ milliseconds: Int) {
    registry.counter(
      "meter_api_answers_total", help: "The number of answers, by operation and class of status.",
      labels: [("operation", route), ("status", "\(status / 100)xx")]
    ).increment()
    registry.histogram(
      "meter_api_seconds", help: "The time from a request's head to the head of its answer.",
      buckets: Self.buckets, labels: [("operation", route)]
    ).observe(Double(milliseconds) / 1_000)
  }
}
