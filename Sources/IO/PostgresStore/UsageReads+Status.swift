/// How far everything is counted, for `meterctl status` and the API.
extension UsageReads {
  package struct GroupOffsets: Sendable {
    package var group: String
    package var topic: String
    package var next: [Int32: Int64]
    /// The age of the newest commit.
    package var commitAgeSeconds: Double
  }

  package func groupOffsets() throws(PostgresError) -> [GroupOffsets] {
    let rows = try connection.query(
      """
      select consumer_group, topic, partition, next_offset,
        extract(epoch from clock_timestamp() - updated_at)
      from consumer_offset order by 1, 2, 3
      """, operation: "read offsets")
    var found: [GroupOffsets] = []
    for i in rows.rows.indices {
      let (group, topic) = (rows.text(i, 0) ?? "", rows.text(i, 1) ?? "")
      let age = max(rows.text(i, 4).flatMap(Double.init) ?? 0, 0)
      if found.last?.group != group || found.last?.topic != topic {
        found.append(GroupOffsets(group: group, topic: topic, next: [:], commitAgeSeconds: age))
      }
      let last = found.count - 1
      found[last].next[Int32(rows.integer(i, 2)!)] = rows.integer(i, 3)!
      found[last].commitAgeSeconds = min(found[last].commitAgeSeconds, age)
    }
    return found
  }

  package func pendingRows() throws(PostgresError) -> Int64 {
    let rows = try connection.query(
      "select count(*) from usage_unmerged", operation: "count pending rows")
    return rows.integer(0, 0) ?? 0
  }

  package struct LedgerRow: Sendable {
    package var group: String
    package var topic: String
    package var producer: String
    package var accepted: Int64?
    package var pending: Int64?
    package var dropped: Int64?
    package var counted: Int64
    package var duplicates: Int64
    package var repeated: Int64
    package var deadLettered: Int64
    package var inFlight: Int64?
    package var missing: Int64?
    package var lastReport: String?
  }

  /// The rows that need attention first, and the sums of all rows.
  package func ledgerRows(
    limit: Int
  ) throws(PostgresError) -> (rows: [LedgerRow], total: Int64, missing: Int64, inFlight: Int64) {
    let sums = try connection.query(
      """
      select count(*), \(LedgerStore.sum("missing")), \(LedgerStore.sum("in_flight"))
      from producer_ledger
      """,
      operation: "read the ledger")
    let rows = try connection.query(
      """
      select consumer_group, topic, producer, accepted, pending, dropped, counted, duplicates,
        dead_lettered, in_flight, missing,
        to_char(last_report_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), repeated
      from producer_ledger
      order by coalesce(missing, 0) <> 0 desc, coalesce(in_flight, 0) <> 0 desc,
        last_report_at desc nulls last
      limit $1::int
      """, [.int(limit)], operation: "read the ledger")
    let found = rows.rows.indices.map { i in
      LedgerRow(
        group: rows.text(i, 0) ?? "", topic: rows.text(i, 1) ?? "", producer: rows.text(i, 2) ?? "",
        accepted: rows.integer(i, 3), pending: rows.integer(i, 4), dropped: rows.integer(i, 5),
        counted: rows.integer(i, 6) ?? 0, duplicates: rows.integer(i, 7) ?? 0,
        repeated: rows.integer(i, 12) ?? 0,
        deadLettered: rows.integer(i, 8) ?? 0, inFlight: rows.integer(i, 9),
        missing: rows.integer(i, 10), lastReport: rows.text(i, 11))
    }
    return (
      found, sums.integer(0, 0) ?? 0, sums.integer(0, 1) ?? 0, sums.integer(0, 2) ?? 0
    )
  }
}
