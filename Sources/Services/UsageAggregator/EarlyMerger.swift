import Foundation
import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime

/// Merges rows that may have reached a threshold immediately, and sums up the states of changed
/// limits again. Every merge judges limits (see Schema/functions/usage_merge.sql). This thread only
/// makes sure that no alert is late.
final class EarlyMerger: Sendable {
  private static let waitMilliseconds = 500
  /// The shortest time between two early merges. Small limits are reached often.
  private static let pauseMilliseconds = 20
  /// How many states one sweep sums up. Merges wait during a sweep; 2,000 states take 70 ms.
  private static let sweepRows = 2_000
  /// How often all states are read. This finds a state whose merge committed after a newer one.
  private static let reloadMilliseconds = 600_000

  private let settings: AggregatorSettings
  private let hints: LimitHints
  private let backlog: MergeBacklog
  private let metrics: AggregatorMetrics
  private let health: HealthState
  private let logger: Logger
  private let stop: StopSignal
  private let pulse: Heartbeat

  init(
    settings: AggregatorSettings, hints: LimitHints, backlog: MergeBacklog,
    metrics: AggregatorMetrics,
    health: HealthState, logger: Logger, stop: StopSignal
  ) {
    self.settings = settings
    self.hints = hints
    self.backlog = backlog
    self.metrics = metrics
    self.health = health
    self.logger = logger
    self.stop = stop
    pulse = health.heartbeat("limits")
  }

  func start() -> WorkerThread { WorkerThread("limits") { [self] in run() } }

  private func run() {
    var kept = KeptConnection(
      url: settings.consumer.databaseURL, application: "\(settings.consumer.group) limits")
    var known: Int64 = -1
    var lastLoad = 0
    var isMoreMarked = false
    defer { pulse.rest() }
    while !stop.isRaised {
      pulse.beat()
      let due = hints.takeDue(waitMilliseconds: isMoreMarked ? 0 : Self.waitMilliseconds)
      do {
        let connection = try kept.open()
        if !due.isEmpty { try judge(due, connection) }
        pulse.beat()
        isMoreMarked =
          try LimitStore(connection).sweep(most: Self.sweepRows) == Self.sweepRows
        if Monotonic.milliseconds - lastLoad > Self.reloadMilliseconds { known = -1 }
        if known < 0 { lastLoad = Monotonic.milliseconds }
        known = try load(newerThan: known, connection)
        metrics.limitHints.set(hints.count)
        health.degraded("limits", problem: nil)
        if !due.isEmpty { _ = stop.wait(milliseconds: Self.pauseMilliseconds) }
      } catch let error as PostgresError where error.isOfSchema {
        // The consumer reports this problem.
        for one in due { hints.judged(one, left: 0) }
        _ = stop.wait(milliseconds: 1_000)
      } catch {
        // Whichever merge comes next judges what was due.
        for one in due { hints.judged(one, left: 0) }
        kept.close()
        known = -1
        isMoreMarked = false
        health.degraded("limits", problem: "\(error)")
        logger.warning(
          "limits could not be judged, so this is tried again", metadata: ["error": "\(error)"])
        _ = stop.wait(milliseconds: 500)
      }
    }
  }

  private func judge(_ due: [LimitHints.Due], _ connection: PostgresConnection) throws {
    // While the log is behind, no alert can be on time, and early merges would only slow the
    // consumer down.
    if !backlog.isBehind {
      let merge = PendingMerge(backlog: backlog, metrics: metrics, logger: logger)
      _ = try merge.run(Array(Set(due.map(\.partition))).sorted(), connection)
    }
    let left = try LimitStore(connection)
      .left(licenses: due.map(\.license), meters: due.map(\.meter))
    for (one, left) in zip(due, left) { hints.judged(one, left: left) }
  }

  /// - Returns: the newest version.
  private func load(newerThan known: Int64, _ connection: PostgresConnection) throws -> Int64 {
    var newest = max(known, 0)
    for state in try LimitStore(connection).states(newerThan: known) {
      hints.read(license: state.license, meter: state.meter, left: state.left)
      newest = max(newest, state.version)
    }
    return newest
  }
}
