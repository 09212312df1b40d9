import LogConsumer
import ServiceRuntime

/// The metrics of the aggregator, beside those of its consumer.
final class AggregatorMetrics: Sendable {
  let mergeSeconds: Histogram
  let mergedRows: Counter
  let pendingRows: Gauge
  let limitHints: Gauge
  let unregisteredLicenses: Gauge
  let unregisteredEvents: Gauge
  let missingEvents: Gauge
  let inFlightEvents: Gauge

  init(_ registry: MetricsRegistry) {
    mergeSeconds = registry.histogram(
      "meter_merge_seconds", help: "Time of a merge.", buckets: ConsumerMetrics.secondsBuckets)
    mergedRows = registry.counter("meter_merged_rows_total", help: "Appended rows merged since.")
    pendingRows = registry.gauge("meter_pending_rows", help: "Rows that wait to be merged.")
    limitHints = registry.gauge(
      "meter_limit_hints", help: "Limits whose next threshold this process watches.")
    unregisteredLicenses = registry.gauge(
      "meter_unregistered_licenses",
      help: "Licenses with usage today (UTC) that nobody registered, of all processes.")
    unregisteredEvents = registry.gauge(
      "meter_unregistered_events",
      help: "Events of today (UTC) of licenses that nobody registered, of all processes.")
    missingEvents = registry.gauge(
      "meter_missing_events",
      help: "Events that producers accepted and that nobody accounts for, of all processes.")
    inFlightEvents = registry.gauge(
      "meter_in_flight_events",
      help: "Events that producers accepted and that are not judged yet, of all processes.")
  }
}
