import Metering
package import ServiceRuntime
import Synchronization
import UsageAggregation

/// The metrics of a consumer. They are updated once a batch or a flush, never once an event.
package final class ConsumerMetrics: Sendable {
  package static let secondsBuckets = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60,
  ]

  let registry: MetricsRegistry
  let records: Counter
  let bytes: Counter
  let counted: Counter
  let duplicates: Counter
  let flushSeconds: Histogram
  let visibleSeconds: Histogram
  let flushRows: Counter
  let flushFailures: Counter
  let takeovers: Counter
  let ownedPartitions: Gauge
  let rebuildingPartitions: Gauge
  let haltedPartitions: Gauge
  let batchBytes: Gauge
  /// The gauges by partition. Building a name with labels every second would be wasteful.
  private let lags = Mutex<[Int32: Gauge]>([:])
  private let topic: String
  private let prefix: String
  private let labels: [(String, String)]

  /// - Parameters:
  ///   - prefix: what the names begin with. Each consumer group has its own, because the groups
  ///     read the same topics, and a sum over one name must not count a record twice.
  ///   - isOneOfSeveral: the process consumes more than one topic, so that each series names its
  ///     own.
  package init(
    _ registry: MetricsRegistry, topic: String, prefix: String = "meter_",
    isOneOfSeveral: Bool = false
  ) {
    self.registry = registry
    self.prefix = prefix
    self.topic = topic
    labels = isOneOfSeveral ? [("topic", topic)] : []
    records = registry.counter(
      "\(prefix)records_total", help: "Records taken from the log.", labels: labels)
    bytes = registry.counter(
      "\(prefix)record_bytes_total", help: "Bytes of the records' values.", labels: labels)
    counted = registry.counter(
      "\(prefix)events_total", help: "Valid events, by outcome.",
      labels: labels + [("result", "counted")])
    duplicates = registry.counter(
      "\(prefix)events_total", help: "Valid events, by outcome.",
      labels: labels + [("result", "duplicate")])
    flushSeconds = registry.histogram(
      "\(prefix)flush_seconds", help: "Duration of a flush, including retries.",
      buckets: Self.secondsBuckets, labels: labels)
    visibleSeconds = registry.histogram(
      "\(prefix)visible_seconds",
      help: "Time from a flush's oldest record to its commit.",
      buckets: Self.secondsBuckets, labels: labels)
    flushRows = registry.counter(
      "\(prefix)flushed_rows_total", help: "Rows appended by flushes.", labels: labels)
    flushFailures = registry.counter(
      "\(prefix)flush_failures_total",
      help: "Failed attempts to flush, which are tried again.",
      labels: labels)
    takeovers = registry.counter(
      "\(prefix)partition_takeovers_total",
      help: "Partitions whose work was dropped because another process owns them.", labels: labels)
    ownedPartitions = registry.gauge(
      "\(prefix)owned_partitions", help: "Partitions that this process owns.", labels: labels)
    rebuildingPartitions = registry.gauge(
      "\(prefix)rebuilding_partitions",
      help: "Partitions that are still rereading their dedupe window.",
      labels: labels)
    haltedPartitions = registry.gauge(
      "\(prefix)halted_partitions", help: "Partitions that cannot go on; see /health/ready.",
      labels: labels)
    batchBytes = registry.gauge(
      "\(prefix)batch_bytes", help: "Memory of the open batch.", labels: labels)
    // It starts at 0, because an alert on an increase needs a first value.
    for reason in RejectionReason.allCases { deadLetter(reason, 0) }
  }

  func deadLetter(_ reason: RejectionReason, _ count: Int = 1) {
    registry.counter(
      "\(prefix)dead_letters_total", help: "Records that became dead letters, by reason.",
      labels: labels + [("reason", reason.rawValue)]
    ).increment(by: count)
  }

  func lag(_ partition: Int32, _ records: Int64) {
    let gauge = lags.withLock { lags in
      if let known = lags[partition] { return known }
      let made = registry.gauge(
        "\(prefix)consumer_lag", help: "Records between the stored offset and the log end.",
        labels: labels(partition))
      lags[partition] = made
      return made
    }
    gauge.set(Int(records))
  }

  func forget(_ partition: Int32) {
    lags.withLock { $0[partition] = nil }
    registry.removeGauge("\(prefix)consumer_lag", labels: labels(partition))
  }

  private func labels(_ partition: Int32) -> [(String, String)] {
    [("topic", topic), ("partition", String(partition))]
  }
}
