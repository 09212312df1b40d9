import LogConsumer
import ServiceRuntime

/// The aggregator's own metrics. Its consumer has others.
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
      "meter_merge_seconds", help: "Duration of a merge.", buckets: ConsumerMetrics.secondsBuckets)
    mergedRows = registry.counter(
      "meter_merged_rows_total", help: "Appended rows that were merged.")
    pendingRows = registry.gauge("meter_pending_rows", help: "Rows that wait to be merged.")
    limitHints = registry.gauge(
      "meter_limit_hints", help: "Limits whose next threshold this process watches.")
    unregisteredLicenses = registry.gauge(
      "meter_unregistered_licenses",
      help: "Unregistered licenses with usage today (UTC), of all processes.")
    unregisteredEvents = registry.gauge(
      "meter_unregistered_events",
      help: "Events of unregistered licenses today (UTC), of all processes.")
    missingEvents = registry.gauge(
      "meter_missing_events",
      help: "Events that producers accepted but that never arrived, of all processes.")
    inFlightEvents = registry.gauge(
      "meter_in_flight_events",
      help: "Events that producers accepted and that may still arrive, of all processes.")
  }
}
