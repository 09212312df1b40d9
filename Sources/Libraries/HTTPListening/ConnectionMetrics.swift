package import ServiceRuntime

/// The metrics of a listener, which are read at each scrape.
package enum ConnectionMetrics {
  package static func register(_ table: ConnectionTable, on registry: MetricsRegistry) {
    let open = registry.gauge("meter_http_connections", help: "Connections that are open.")
    let maximum = registry.gauge(
      "meter_http_connections_maximum",
      help: "Connections that can be open at the same time, by the limit of open files.")
    maximum.set(table.maximum)
    let closed = registry.copiedCounter(
      "meter_http_connections_displaced_total",
      help: "Idle connections that were closed to make room for new ones.")
    let refused = registry.copiedCounter(
      "meter_http_connections_refused_total",
      help: "Connections that were closed because all others had a request under way.")
    registry.onScrape {
      let now = table.statistics
      open.set(now.open)
      closed.set(Double(now.closedForOthers))
      refused.set(Double(now.refused))
    }
  }
}
