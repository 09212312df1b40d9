/// The facts beside usage that decide how the log is counted again.
extension UsageReads {
  package struct Gap: Sendable {
    package var partition: Int32
    package var logEpoch: Int32
    package var firstOffset: Int64
    package var lastOffset: Int64
    package var acceptedBy: String
  }

  package struct DeadLetterPlace: Sendable {
    package var partition: Int32
    package var offset: Int64
    package var logEpoch: Int32
    package var reason: String
    package var isCounted: Bool
    /// Its record was in a part of the log that is lost. Another record may have its offset now.
    package var isLost: Bool
  }

  package struct LedgerSum: Sendable {
    package var producer: String
    package var counted: Int64
    package var duplicates: Int64
    package var repeated: Int64
    package var deadLettered: Int64
  }

  package func importBatches() throws(PostgresError) -> [(batch: String, oldest: Int64)] {
    let rows = try connection.query(
      "select batch, ceil(extract(epoch from oldest_time) * 1000)::bigint from import_batch",
      operation: "read import batches")
    return rows.rows.indices.map { (rows.text($0, 0) ?? "", rows.integer($0, 1) ?? 0) }
  }

  package func gaps(group: String, topic: String) throws(PostgresError) -> [Gap] {
    let rows = try connection.query(
      """
      select partition, log_epoch, first_offset, last_offset, accepted_by from log_gap
      where consumer_group = $1 and topic = $2 order by 1, 2, 3
      """, [.text(group), .text(topic)], operation: "read gaps")
    return rows.rows.indices.map {
      Gap(
        partition: Int32(rows.integer($0, 0)!), logEpoch: Int32(rows.integer($0, 1)!),
        firstOffset: rows.integer($0, 2)!, lastOffset: rows.integer($0, 3)!,
        acceptedBy: rows.text($0, 4) ?? "")
    }
  }

  package func deadLetters(group: String, topic: String) throws -> [DeadLetterPlace] {
    var found: [DeadLetterPlace] = []
    try forEachPage(
      "select partition, log_offset, log_epoch, reason, counted_at is not null, "
        + "lost_from is not null from dead_letter "
        + "where consumer_group = \(Self.literal(group)) and topic = \(Self.literal(topic))",
      "read dead letters"
    ) { rows, i in
      found.append(
        DeadLetterPlace(
          partition: Int32(rows.integer(i, 0)!), offset: rows.integer(i, 1)!,
          logEpoch: Int32(rows.integer(i, 2)!), reason: rows.text(i, 3) ?? "",
          isCounted: rows.boolean(i, 4), isLost: rows.boolean(i, 5)))
    }
    return found
  }

  /// Whether a dead letter with that place and value is stored.
  ///
  /// - Parameter before: the offset in the same partition and epoch that the letter must come
  ///   before. If the letter's part of the log is lost, all records that were read since come after
  ///   it.
  package func hasDeadLetter(
    topic: String, logEpoch: Int64, partition: Int64, offset: Int64, value: [UInt8],
    before: Int64? = nil
  ) throws(PostgresError) -> Bool {
    try connection.query(
      """
      select exists (
        select from dead_letter where topic = $1 and log_epoch = $2::int and partition = $3::int
          and log_offset = $4::bigint and payload = $5
          and ($6::bigint is null or log_offset < $6::bigint or lost_from <= $6::bigint))
      """,
      [
        .text(topic), .integer(logEpoch), .integer(partition), .integer(offset), .bytes(value),
        before.map { .integer($0) } ?? .null,
      ],
      operation: "look up a dead letter"
    ).boolean(0, 0)
  }

  /// The rows of the view `producer_ledger`.
  package func ledger(group: String, topic: String) throws(PostgresError) -> [LedgerSum] {
    let rows = try connection.query(
      """
      select producer, counted, duplicates, repeated, dead_lettered from producer_ledger
      where consumer_group = $1 and topic = $2
      """, [.text(group), .text(topic)], operation: "read the ledger")
    return rows.rows.indices.map {
      LedgerSum(
        producer: rows.text($0, 0) ?? "", counted: rows.integer($0, 1)!,
        duplicates: rows.integer($0, 2)!, repeated: rows.integer($0, 3)!,
        deadLettered: rows.integer($0, 4)!)
    }
  }

  /// The rows that merges have set aside. No view counts them.
  package func quarantined() throws(PostgresError) -> [(license: String, rows: Int64)] {
    let rows = try connection.query(
      "select license_id, count(*) from usage_quarantine group by 1 order by 1",
      operation: "read the quarantine")
    return rows.rows.indices.map { (rows.text($0, 0) ?? "", rows.integer($0, 1) ?? 0) }
  }
}
