import Foundation
import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime

/// Moves what merges appended to `usage_delta` into the running totals (see v0011_totals.sql) and
/// what they appended to `usage_appended` into the hour and day rows (see
/// v0024_appending_merges.sql), and makes the totals of days that are older than the totals
/// themselves.
///
/// Readers add what waits, so a fold that is late costs them time and never a number. One process
/// folds at a time; the others find the lock taken and look again later.
final class TotalsFolder: Sendable {
  /// How many rows a fold moves. So many take about half a second, in which changes of anchors and
  /// customers wait.
  private static let rows = 50_000
  private static let intervalMilliseconds = 2_000
  /// Without a merge by this process there may still be rows that another one left.
  private static let idleMilliseconds = 60_000
  /// How long no fold runs while the consumer is behind or much waits to be merged, since folds would
  /// take the processors from that.
  private static let busyMilliseconds = 60_000
  /// Autovacuum comes once a minute; until then readers would walk over the dead rows.
  private static let vacuumRows = 20_000
  /// The same for appended rows, which have an index that makes their vacuum dearer.
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
    // Rows that are combined once their hour is over, or nothing more is appended.
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
        // The consumer reports it. Until there is a schema that fits, there is nothing to fold.
      } catch {
        // Readers add what waits, which takes them longer and longer.
        health.degraded("totals", problem: "\(error)", logs: false)
        logger.warning(
          "folding totals failed and is tried again", metadata: ["error": "\(error)"])
        kept.close()
      }
    }
  }

  /// Whether more waits than a merge waits for, or the merges behind a backlog are not done.
  private var isBusy: Bool { backlog.isSettling || backlog.count > settings.maxPendingRows / 8 }

  /// - Parameter isUrgent: it has waited too long to make way for merges again.
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
