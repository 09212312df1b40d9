/// The two steps behind a flush: merges and folds (see `Schema/README.md`).
package struct MergeStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// Moves what waits of some partitions into the rows of hours and days.
  ///
  /// - Parameter isolating: sets the rows of licenses aside whose sums do not fit. Without it such
  ///   a license fails the whole merge.
  /// - Returns: the rows moved.
  package func merge(_ partitions: [Int32], isolating: Bool) throws(PostgresError) -> Int {
    let rows = try connection.query(
      "select usage_merge($1::int[], $2)",
      [.integers(partitions.map { Int64($0) }), .boolean(isolating)], operation: "merge")
    return Int(rows.integer(0, 0) ?? 0)
  }

  /// Moves deltas into the running totals.
  ///
  /// - Returns: the rows moved; 0 where none wait, or another process folds.
  package func fold(most: Int) throws(PostgresError) -> Int {
    let rows = try connection.query(
      "select usage_fold($1::int)", [.int(most)], operation: "fold totals")
    return Int(rows.integer(0, 0) ?? 0)
  }
}
