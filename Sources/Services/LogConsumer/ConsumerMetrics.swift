import Metering
package import ServiceRuntime
import Synchronization
import UsageAggregation

/// What a consumer tells Prometheus. Updated a batch or a flush at a time, never an event.
package final class ConsumerMetrics: Sendable {
  private static let secondsBuckets = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60,
  ]

  let registry: MetricsRegistry
  let records: Counter
  let bytes: Counter
  let counted: Counter
  let duplicates: Counter
  let flushSeconds: Histogram
  let visibleSeconds: Histogram
  let mergeSeconds: Histogram
  let flushRows: Counter
  let mergedRows: Counter
  let flushFailures: Counter
  let takeovers: Counter
  let pendingRows: Gauge
  let ownedPartitions: Gauge
  let limitHints: Gauge
  let rebuildingPartitions: Gauge
  let haltedPartitions: Gauge
  let batchBytes: Gauge
  private let topic: String

  package init(_ registry: MetricsRegistry, topic: String) {
    self.registry = registry
    self.topic = topic
    records = registry.counter("meter_records_total", help: "Records taken from the log.")
    bytes = registry.counter("meter_record_bytes_total", help: "Bytes of their values.")
    counted = registry.counter(
      "meter_events_total", help: "Valid events, by what became of them.",
      labels: [("result", "counted")])
    duplicates = registry.counter(
      "meter_events_total", help: "Valid events, by what became of them.",
      labels: [("result", "duplicate")])
    flushSeconds = registry.histogram(
      "meter_flush_seconds", help: "Time of a flush, retries included.",
      buckets: Self.secondsBuckets)
    visibleSeconds = registry.histogram(
      "meter_visible_seconds",
      help: "From the timestamp of a flush's oldest record to its commit.",
      buckets: Self.secondsBuckets)
    mergeSeconds = registry.histogram(
      "meter_merge_seconds", help: "Time of a merge.", buckets: Self.secondsBuckets)
    flushRows = registry.counter("meter_flushed_rows_total", help: "Rows appended by flushes.")
    mergedRows = registry.counter("meter_merged_rows_total", help: "Appended rows merged since.")
    flushFailures = registry.counter(
      "meter_flush_failures_total", help: "Attempts of a flush that failed and were tried again.")
    takeovers = registry.counter(
      "meter_partition_takeovers_total",
      help: "Partitions whose work was dropped because another process owns them.")
    pendingRows = registry.gauge("meter_pending_rows", help: "Rows that wait to be merged.")
    ownedPartitions = registry.gauge("meter_owned_partitions", help: "Partitions of this process.")
    limitHints = registry.gauge(
      "meter_limit_hints", help: "Limits whose next threshold this process watches.")
    rebuildingPartitions = registry.gauge(
      "meter_rebuilding_partitions", help: "Partitions that still re-read their dedupe window.")
    haltedPartitions = registry.gauge(
      "meter_halted_partitions", help: "Partitions that cannot go on; see /health/ready.")
    batchBytes = registry.gauge("meter_batch_bytes", help: "Memory of the batch being filled.")
    // From the start at 0: an alert on an increase needs a first value.
    for reason in RejectionReason.allCases { deadLetter(reason, 0) }
  }

  func deadLetter(_ reason: RejectionReason, _ count: Int = 1) {
    registry.counter(
      "meter_dead_letters_total", help: "Records that became dead letters, by reason.",
      labels: [("reason", reason.rawValue)]
    ).increment(by: count)
  }

  func lag(_ partition: Int32, _ records: Int64) {
    registry.gauge(
      "meter_consumer_lag", help: "Records between the stored offset and the log end.",
      labels: labels(partition)
    ).set(Int(records))
  }

  func forget(_ partition: Int32) {
    registry.removeGauge("meter_consumer_lag", labels: labels(partition))
  }

  private func labels(_ partition: Int32) -> [(String, String)] {
    [("topic", topic), ("partition", String(partition))]
  }
}
