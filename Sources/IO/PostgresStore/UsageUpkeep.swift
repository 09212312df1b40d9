/// Keeps the tables small that merges and folds empty.
package struct UsageUpkeep {
  package enum Table: String, Sendable {
    case pending = "usage_pending"
    case recent = "usage_pending_recent"
    case delta = "usage_delta"
    case appended = "usage_appended"

    /// The pages of a larger table are given back. An emptied table of 64 MB costs a reader who walks
    /// over it about 12 ms. Small flushes fill as much again within seconds, and taking pages back
    /// and forth would hold up readers.
    fileprivate var roomyBytes: Int64 { self == .recent ? 256 << 20 : 64 << 20 }
  }

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
  /// - Parameter roomyBytes: pages of a larger table are given back. Nil stands for what fits the
  ///   table.
  /// - Returns: about how many deleted rows it could not remove, because the snapshot of an open
  ///   transaction may see them.
  @discardableResult
  package func vacuum(
    _ table: Table, roomyBytes: Int64? = nil
  ) throws(PostgresError) -> Int {
    let size = try connection.query(
      "select pg_relation_size($1::regclass)", [.text(table.rawValue)], operation: "vacuum")
    let isRoomy = size.integer(0, 0) ?? 0 > roomyBytes ?? table.roomyBytes
    try connection.execute(
      "vacuum (skip_locked, parallel 0, truncate \(isRoomy)) \(table.rawValue)")
    let kept = try connection.query(
      "select pg_stat_get_dead_tuples($1::regclass)", [.text(table.rawValue)], operation: "vacuum")
    return Int(kept.integer(0, 0) ?? 0)
  }
}
