import Foundation
import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime

/// Moves the rows that merges appended to `usage_delta` into the running totals (see
/// v0011_totals.sql), and those in `usage_appended` into the hour and day rows (see
/// v0024_appending_merges.sql). It also computes totals for days that are older than the totals
/// themselves.
///
/// Readers add the rows that wait, so a late fold costs them time but never gives a wrong number.
/// One process folds at a time. The others find the lock taken and try again later.
final class TotalsFolder: Sendable {
  /// The number of rows in one fold. They take about half a second, during which changes of anchors
  /// and customers wait.
  private static let rows = 50_000
  private static let intervalMilliseconds = 2_000
  /// Another process may have left rows, even if this one has merged nothing.
  private static let idleMilliseconds = 60_000
  /// How long folds are put off while the consumer is behind or many rows wait to be merged,
  /// because a fold would take processors from them.
  private static let busyMilliseconds = 60_000
  /// Autovacuum comes only once a minute. Until then, readers would have to pass over the dead
  /// rows.
  private static let vacuumRows = 20_000
  /// The same for appended rows, whose index makes a vacuum more expensive.
  private static let appendedVacuumRows = 200_000

  private let settings: AggregatorSettings
  private let backlog: MergeBacklog
  private let metrics: AggregatorMetrics
  private let logger: Logger
  private let stop: StopSignal
  private let health: HealthState
  private let pulse: Heartbeat

  init(
    settings: AggregatorSettings, backlog: MergeBacklog, metrics: AggregatorMetrics,
    health: HealthState, logger: Logger, stop: StopSignal
  ) {
    self.settings = settings
    self.backlog = backlog
    self.metrics = metrics
    self.logger = logger
    self.stop = stop
    self.health = health
    pulse = health.heartbeat("totals", times: Merger.patienceTimes)
  }

  func start() -> WorkerThread { WorkerThread("totals") { [self] in run() } }

  private func run() {
    var kept = KeptConnection(
      url: settings.consumer.databaseURL, application: "\(settings.consumer.group) totals",
      statementTimeoutMilliseconds: 300_000)
    var last = Int.min / 2
    var lastMerged = -1
    // There are rows to combine once their hour is over, or once nothing more is appended.
    var isAppended = false
    defer { pulse.rest() }
    while !stop.wait(milliseconds: Self.intervalMilliseconds) {
      pulse.beat()
      let now = Monotonic.milliseconds
      let merged = metrics.mergedRows.current
      guard merged != lastMerged || isAppended || now - last >= Self.idleMilliseconds,
        !isBusy || now - last >= Self.busyMilliseconds
      else { continue }
      do {
        let connection = try kept.open()
        try foldAll(connection, isUrgent: now - last >= Self.busyMilliseconds)
        isAppended = try UsageUpkeep(connection).isAppended()
        (last, lastMerged) = (now, merged)
        health.degraded("totals", problem: nil)
      } catch let error as PostgresError where error.isOfSchema {
        // The consumer reports this problem. Without a schema that fits, there is nothing to fold.
      } catch {
        // Readers add the rows that wait, and that takes longer and longer.
        health.degraded("totals", problem: "\(error)", logs: false)
        logger.warning(
          "folding totals failed and is tried again", metadata: ["error": "\(error)"])
        kept.close()
      }
    }
  }

  /// Whether many more rows wait than merges let wait, or the merges after a backlog are not finished.
  private var isBusy: Bool { backlog.isSettling || backlog.count > settings.maxPendingRows / 2 }

  /// - Parameter isUrgent: the fold has waited too long to give way to merges again.
  private func foldAll(_ connection: PostgresConnection, isUrgent: Bool) throws {
    var moved = 0
    while !stop.isRaised, isUrgent || !isBusy {
      let count = try MergeStore(connection).fold(most: Self.rows)
      guard count > 0 else { break }
      moved += count
      pulse.beat()
    }
    if moved > Self.vacuumRows { try UsageUpkeep(connection).vacuum(.delta) }
    if moved > Self.appendedVacuumRows { try UsageUpkeep(connection).vacuum(.appended) }
  }
}
