/// The ledger of producers: how many events they accepted, and what happened to them.
package struct LedgerStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The sums over all producers of a consumer group. One producer's surplus does not hide what
  /// another one lacks.
  package func totals(
    of group: String
  ) throws(PostgresError) -> (missing: Int64, inFlight: Int64) {
    let rows = try connection.query(
      """
      select coalesce(sum(greatest(missing, 0)), 0)::bigint, coalesce(sum(in_flight), 0)::bigint
      from producer_ledger where consumer_group = $1
      """, [.text(group)], operation: "read the ledger")
    return (rows.integer(0, 0) ?? 0, rows.integer(0, 1) ?? 0)
  }
}
