import Metering

/// The partitions of months. They are created ahead of time, and for the months that an import
/// reaches (see v0012_retention.sql).
package struct PartitionStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) {
    self.connection = connection
  }

  /// Creates missing partitions, each in a separate transaction. An open reader may prevent one
  /// from being attached. After a few tries, that one is left for the next call. If the default
  /// partition is large, a transaction comes first that keeps the month out of it.
  ///
  /// - Parameter isStopped: called between two partitions.
  /// - Returns: the names of the new partitions.
  @discardableResult
  package func makeMissing(
    monthsAhead: Int, isStopped: () -> Bool = { false }
  ) throws(PostgresError) -> [String] {
    var made: [String] = []
    var tries = 0
    while !isStopped() {
      do throws(PostgresError) {
        let rows = try connection.query(
          "select usage_month_make_next($1::int)", [.int(monthsAhead)],
          operation: "make partitions ahead")
        guard let name = rows.text(0, 0) else { break }
        if !name.hasSuffix("_default") { made.append(name) }
      } catch {
        // Others that queued behind this statement have waited for at most 100 ms.
        guard error.sqlState == SQLState.lockNotAvailable else { throw error }
        tries += 1
        if tries == 5 { break }
      }
    }
    return made
  }

  /// Whether months are kept out of a default partition because their own could not be attached
  /// yet. Meanwhile their rows are appended only.
  package func isKeepingMonthsOut() throws(PostgresError) -> Bool {
    try connection.query(
      "select usage_months_kept_out() <> '{}'", operation: "read months that are kept out"
    ).boolean(0, 0)
  }

  /// Gives partitions of an older schema what new ones are created with, without holding up others.
  /// The next call goes on where this one was cut off.
  package func repair(isStopped: () -> Bool = { false }) throws(PostgresError) {
    let before = try connection.query(
      "select current_setting('statement_timeout'), current_setting('lock_timeout')",
      operation: "read settings")
    // A constraint is added first and validated afterwards, so there are two rounds.
    for _ in 0..<2 {
      let rows = try connection.query(
        "select statement, place from usage_partition_repair order by place, statement",
        operation: "read partitions")
      for i in rows.rows.indices where !isStopped() {
        // Only adding a constraint locks out readers. The other steps wait for open transactions to
        // end.
        let isLocking = rows.integer(i, 1) == 3
        try set(statement: "0", lock: isLocking ? "100ms" : "10s")
        do throws(PostgresError) {
          try connection.execute(rows.text(i, 0)!)
        } catch {
          guard error.sqlState == SQLState.lockNotAvailable else { throw error }
        }
        try set(statement: before.text(0, 0)!, lock: before.text(0, 1)!)
      }
      if rows.rows.isEmpty { break }
    }
  }

  private func set(statement: String, lock: String) throws(PostgresError) {
    try connection.query(
      "select set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)",
      [.text(statement), .text(lock)], operation: "set timeouts")
  }
}
