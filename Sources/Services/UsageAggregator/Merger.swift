import Foundation
import LogConsumer
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import Synchronization

/// Moves appended rows into hour and day rows, behind the flushes.
final class Merger: Sendable {
  /// A merge of this many rows does not wait for the interval: readers of all licenses walk over
  /// each row. The later a merge comes, the fewer rows it writes for each event.
  private static let dueRows = 200_000
  /// The number of rows from which a second connection is worth it, after a backlog.
  private static let rowsWorthTwo = 20_000
  /// The rows that one transaction takes, roughly, and after a backlog. More are merged in portions
  /// of partitions, each with its own commit. Small ones sort their rows in memory and leave the
  /// processors to readers in between.
  private static let (portionRows, largePortionRows) = (50_000, 400_000)
  /// The patience of a merge, as a multiple of other threads'. A statement may take five minutes,
  /// and a merge that meets a sum which does not fit runs two of them.
  static let patienceTimes = 3
  /// After this many merged rows, their table is vacuumed. Autovacuum comes only once a minute.
  private static let vacuumRows = 20_000
  private static let mostVacuumRows = 1_000_000
  /// For this long after the consumer was behind, flushed rows are merged immediately.
  private static let caughtUpMilliseconds = 1_500

  private let settings: AggregatorSettings
  private let backlog: MergeBacklog
  private let merge: PendingMerge
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
    self.health = health
    pulse = health.heartbeat("merger", times: Self.patienceTimes)
    merge = PendingMerge(backlog: backlog, metrics: metrics, logger: logger)
    self.logger = logger
    self.stop = stop
  }

  func start() -> WorkerThread { WorkerThread("merger") { [self] in run() } }

  private func run() {
    var connection: PostgresConnection?
    var second: PostgresConnection?
    var last = Monotonic.milliseconds
    var (sinceVacuum, vacuumRows) = (0, Self.vacuumRows)
    var lastBehind = Int.min / 2
    // It is doubled when a merge took too long, because rows of an earlier process are not in the
    // count.
    var leastPortions = 1
    var seen = 0
    defer { pulse.rest() }
    while !stop.isRaised {
      seen = backlog.waitForChange(
        after: seen, milliseconds: min(100, settings.mergeIntervalMilliseconds))
      pulse.beat()
      // A consumer that has just caught up has the most to merge. It flushes the rest a moment
      // later.
      let now = Monotonic.milliseconds
      if backlog.isBehind { lastBehind = now }
      // Waiting makes merges cheaper, because each key's row is written only once. But readers pay
      // for the rows that wait.
      let waiting = backlog.count
      let isDue =
        waiting > 0 && now - lastBehind < Self.caughtUpMilliseconds
        || now - last >= settings.mergeIntervalMilliseconds
      guard
        waiting > settings.maxPendingRows * 3 / 4
          || !backlog.isBehind
            && (isDue || waiting > min(Self.dueRows, settings.maxPendingRows / 4))
      else { continue }
      // The mark comes first, so that each row before it is of a partition that is merged below.
      let mark = backlog.allAdded
      let mine = backlog.ownedPartitions
      guard !mine.isEmpty else { continue }
      do {
        if connection == nil { connection = try open() }
        let connection = connection!
        var moved = 0
        let isSettling = backlog.isSettling
        let portionRows = isSettling ? Self.largePortionRows : Self.portionRows
        let portions = max(leastPortions, waiting / portionRows + 1)
        for portion in Self.portions(mine, portions) where !stop.isRaised {
          pulse.beat()
          moved +=
            isSettling && waiting >= Self.rowsWorthTwo && portion.count >= 2
            ? try mergeInTwo(portion, connection, &second) : try merge.run(portion, connection)
        }
        if !stop.isRaised { backlog.merged(before: mark) }
        health.degraded("merges", problem: nil)
        // At a high rate, new rows wait whenever a merge ends. They are not a backlog.
        if now - lastBehind >= Self.caughtUpMilliseconds { backlog.settled() }
        leastPortions = 1
        last = Monotonic.milliseconds
        sinceVacuum += moved
        if sinceVacuum > vacuumRows,
          backlog.count == 0 || now - lastBehind > Self.caughtUpMilliseconds
        {
          // Rows that an open transaction keeps make each vacuum dearer, and a vacuum every second
          // would walk over them in vain.
          let upkeep = UsageUpkeep(connection)
          backlog.deadRows = try upkeep.vacuum(.recent)
          let kept = max(backlog.deadRows, try upkeep.vacuum(.pending))
          (sinceVacuum, vacuumRows) = (0, min(max(Self.vacuumRows, kept / 2), Self.mostVacuumRows))
        }
      } catch {
        // Counted usage waits, and readers pay for it.
        health.degraded("merges", problem: "\(error)", logs: false)
        logger.warning("a merge failed and is tried again", metadata: ["error": "\(error)"])
        // The statement exceeded its time limit.
        if (error as? PostgresError)?.sqlState == SQLState.canceled {
          leastPortions = min(leastPortions * 2, max(mine.count, 1))
        }
        connection = nil
        second = nil
        last = Monotonic.milliseconds
        _ = stop.wait(milliseconds: 1_000)
      }
    }
  }

  /// Splits the partitions into at most `count` runs of nearly equal length.
  static func portions(_ partitions: [Int32], _ count: Int) -> [[Int32]] {
    let count = max(1, min(count, partitions.count))
    return (0..<count).map { i in
      Array(partitions[partitions.count * i / count..<partitions.count * (i + 1) / count])
    }
  }

  private func open() throws -> PostgresConnection {
    try PostgresConnection(
      url: settings.consumer.databaseURL, application: "\(settings.consumer.group) merge",
      statementTimeoutMilliseconds: 300_000)
  }

  /// Merges half of the partitions on each of two connections at the same time. This is only done
  /// once the consumer has caught up and leaves the processors to the database.
  private func mergeInTwo(
    _ partitions: [Int32], _ connection: PostgresConnection, _ second: inout PostgresConnection?
  ) throws -> Int {
    // Only the thread below uses it until that thread is joined.
    nonisolated(unsafe) let other = try second ?? open()
    second = other
    let middle = partitions.count / 2
    let outcome = Mutex<Result<Int, any Error>>(.success(0))
    let thread = WorkerThread("merger") { [self] in
      let result = Result { try merge.run(Array(partitions[middle...]), other) }
      outcome.withLock { $0 = result }
    }
    let moved = Result { try merge.run(Array(partitions[..<middle]), connection) }
    thread.join()
    return try moved.get() + outcome.withLock { $0 }.get()
  }
}
