import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime

/// Keeps the gauges of usage that nobody is billed for, because its license is not registered.
struct UnregisteredWatch: Sendable {
  /// Often enough for an alert, and rare enough to cost an idle database nothing.
  private static let intervalMilliseconds = 60_000

  let databaseURL: String
  let metrics: AggregatorMetrics
  let logger: Logger
  let stop: StopSignal

  func start() -> WorkerThread { WorkerThread("unregistered") { run() } }

  private func run() {
    repeat {
      do {
        // Opened for each look: a minute is longer than a connection is worth.
        let connection = try PostgresConnection(
          url: databaseURL, application: "usage-aggregator unregistered")
        let found = try UnregisteredStore(connection).today()
        metrics.unregisteredLicenses.set(Int(found.licenses))
        metrics.unregisteredEvents.set(Int(found.eventCount))
      } catch {
        logger.debug("unregistered usage was not counted", metadata: ["error": "\(error)"])
      }
    } while !stop.wait(milliseconds: Self.intervalMilliseconds)
  }
}
