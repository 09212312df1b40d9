import Logging
import Metering
import PostgresStore
import ServiceRuntime

/// Merges the pending rows of some partitions. If a license's sums no longer fit, its rows are set
/// aside.
struct PendingMerge {
  let backlog: MergeBacklog
  let metrics: AggregatorMetrics
  let logger: Logger

  /// - Returns: the number of rows moved.
  func run(_ partitions: [Int32], _ connection: PostgresConnection) throws -> Int {
    let started = Monotonic.milliseconds
    var isolate = false
    while true {
      do throws(PostgresError) {
        let moved = try MergeStore(connection).merge(partitions, isolating: isolate)
        if moved > 0 {
          metrics.mergeSeconds.observe(Double(Monotonic.milliseconds - started) / 1_000)
          metrics.mergedRows.increment(by: moved)
          backlog.add(-moved)
        }
        return moved
      } catch {
        // A sum does not fit. The license's rows are set aside, so that they hold up no other
        // license.
        guard !isolate,
          error.sqlState == SQLState.checkViolation || error.sqlState == SQLState.numericOverflow
        else { throw error }
        logger.error("a license's total is too large, so its rows were moved to usage_quarantine")
        isolate = true
      }
    }
  }
}
