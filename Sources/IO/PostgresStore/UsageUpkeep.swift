/// Keeps the tables small that merges and folds empty. Readers walk over all pages of the deltas.
package struct UsageUpkeep {
  package enum Table: String, Sendable {
    case pending = "usage_pending"
    case delta = "usage_delta"
    case appended = "usage_appended"
  }

  /// An emptied table of this size costs a reader about 12 ms.
  private static let roomyBytes: Int64 = 64 << 20

  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) {
    self.connection = connection
  }

  /// Whether large merges have left rows that are not in the hours and days yet.
  package func isAppended() throws(PostgresError) -> Bool {
    try connection.query(
      "select exists (select from usage_appended)", operation: "look for appended rows"
    ).boolean(0, 0)
  }

  /// Removes what is deleted. The pages of a large backlog are given back as well: that takes a
  /// lock for which PostgreSQL does not queue, and which it lets go when somebody waits.
  ///
  /// - Parameter roomyBytes: pages of a larger table are given back.
  /// - Returns: about how many deleted rows it could not remove, because the snapshot of an open
  ///   transaction may see them.
  @discardableResult
  package func vacuum(
    _ table: Table, roomyBytes: Int64 = roomyBytes
  ) throws(PostgresError) -> Int {
    let size = try connection.query(
      "select pg_relation_size($1::regclass)", [.text(table.rawValue)], operation: "vacuum")
    let isRoomy = size.integer(0, 0) ?? 0 > roomyBytes
    try connection.execute("vacuum (skip_locked, truncate \(isRoomy)) \(table.rawValue)")
    let kept = try connection.query(
      "select pg_stat_get_dead_tuples($1::regclass)", [.text(table.rawValue)], operation: "vacuum")
    return Int(kept.integer(0, 0) ?? 0)
  }
}
