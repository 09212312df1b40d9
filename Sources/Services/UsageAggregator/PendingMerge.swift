import Logging
import Metering
import PostgresStore
import ServiceRuntime

/// Merges what waits of some partitions, and sets licenses aside whose sums no longer fit.
struct PendingMerge {
  let backlog: MergeBacklog
  let metrics: AggregatorMetrics
  let logger: Logger

  /// - Returns: the rows moved.
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
        // A sum does not fit: set that license's rows aside, so that it stops nobody else's.
        guard !isolate,
          error.sqlState == SQLState.checkViolation || error.sqlState == SQLState.numericOverflow
        else { throw error }
        logger.error("a license's total does not fit and is quarantined, see usage_quarantine")
        isolate = true
      }
    }
  }
}
