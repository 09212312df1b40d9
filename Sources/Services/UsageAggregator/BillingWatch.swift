import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime

/// Keeps the gauges of what would make an invoice wrong: usage that nobody is billed for, because
/// its license is not registered, and events that producers sent but that never arrived.
struct BillingWatch: Sendable {
  /// The time between two looks. It is short enough for an alert, and long enough to cost an idle
  /// database nothing.
  private static let intervalMilliseconds = 60_000

  let settings: AggregatorSettings
  let metrics: AggregatorMetrics
  let logger: Logger
  let stop: StopSignal
  let pulse: Heartbeat

  func start() -> WorkerThread { WorkerThread("billing watch") { run() } }

  private func run() {
    defer { pulse.rest() }
    repeat {
      pulse.beat()
      do {
        // It is opened for each look, because keeping a connection for a minute is not worth it.
        let connection = try PostgresConnection(
          url: settings.consumer.databaseURL, application: "usage-aggregator billing watch")
        let unregistered = try UnregisteredStore(connection).today()
        metrics.unregisteredLicenses.set(Int(unregistered.licenses))
        metrics.unregisteredEvents.set(Int(unregistered.eventCount))
        let ledger = try LedgerStore(connection).totals(of: settings.consumer.group)
        metrics.missingEvents.set(Int(ledger.missing))
        metrics.inFlightEvents.set(Int(ledger.inFlight))
      } catch {
        logger.debug("the billing gauges were not read", metadata: ["error": "\(error)"])
      }
      pulse.rest()
    } while !stop.wait(milliseconds: Self.intervalMilliseconds)
  }
}
