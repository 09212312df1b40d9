/// The ledger of producers: how many events they accepted, and what happened to them.
package struct LedgerStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The sum of a column of `producer_ledger`. A sum that does not fit is the largest or smallest
  /// number, because producers choose theirs, and none may stop the readers of all others.
  static func sum(_ column: String) -> String {
    """
    greatest(least(coalesce(sum(\(column)), 0), 9223372036854775807), -9223372036854775807)::bigint
    """
  }

  /// The sums over all producers of a consumer group. One producer's surplus does not hide what
  /// another one lacks.
  package func totals(
    of group: String
  ) throws(PostgresError) -> (missing: Int64, inFlight: Int64) {
    let rows = try connection.query(
      """
      select \(Self.sum("greatest(missing, 0)")), \(Self.sum("in_flight"))
      from producer_ledger where consumer_group = $1
      """, [.text(group)], operation: "read the ledger")
    return (rows.integer(0, 0) ?? 0, rows.integer(0, 1) ?? 0)
  }
}
