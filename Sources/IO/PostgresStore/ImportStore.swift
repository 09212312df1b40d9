package import Metering

/// Stores backfills. A batch is in `import_batch` before its first event is sent. It is `running`
/// until its last event is acknowledged.
package struct ImportStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct Batch: Sendable, Equatable {
    package var name: String
    package var fileHash: String
    package var fileName: String
    package var format: String
    /// A JSON object of strings: the other options that decide which event a line becomes.
    package var options: String
    /// A time in RFC 3339.
    package var oldestTime: String
    package var producer: String

    package init(
      name: String, fileHash: String, fileName: String, format: String, options: String,
      oldestTime: String, producer: String
    ) {
      self.name = name
      self.fileHash = fileHash
      self.fileName = fileName
      self.format = format
      self.options = options
      self.oldestTime = oldestTime
      self.producer = producer
    }
  }

  /// A batch that exists already.
  package struct Known: Sendable, Equatable {
    package var name: String
    package var fileHash: String
    package var fileName: String
    package var format: String
    package var oldestTime: String
    package var isFinished: Bool
    package var startedAt: String
    package var finishedAt: String?
    /// Whether its options are the requested ones.
    package var hasSameOptions: Bool
  }

  /// The oldest time that events of each batch may have, in milliseconds since 1970. Unregistered
  /// batches are left out.
  package func oldestTimes(of batches: [Identifier]) throws(PostgresError) -> [Identifier: Int64] {
    let rows = try connection.query(
      """
      select batch, (extract(epoch from oldest_time) * 1000)::bigint from import_batch
      where batch = any ($1::text[])
      """, [.identifiers(batches)], operation: "look up import batches")
    return Dictionary(
      uniqueKeysWithValues: rows.rows.indices.map {
        (Identifier(rows.text($0, 0)!), rows.integer($0, 1)!)
      })
  }

  /// Takes the lock of a file without waiting. The connection holds it until it closes.
  ///
  /// - Returns: false if another process is importing this file.
  package func tryLock(fileHash: String) throws(PostgresError) -> Bool {
    try connection.tryLockForSession(.fileImport, fileHash, operation: "import")
  }

  /// The next link of a chain of digests: SHA-256 of `link` followed by `chunk`. The first link is
  /// empty. With this, PostgreSQL hashes a file of any size in pieces.
  package func chain(_ link: [UInt8], _ chunk: [UInt8]) throws(PostgresError) -> [UInt8] {
    let rows = try connection.query(
      "select encode(sha256($1::bytea || $2::bytea), 'hex')", [.bytes(link), .bytes(chunk)],
      operation: "hash the file")
    return Hexadecimal.bytes(rows.text(0, 0) ?? "")
  }

  /// The batch of this file, otherwise the one with this name.
  package func find(fileHash: String, name: String, options: String) throws(PostgresError) -> Known?
  {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    }
    let rows = try connection.query(
      """
      select batch, file_hash, file_name, format, \(time("oldest_time")), status = 'finished',
        \(time("started_at")), \(time("finished_at")), options = $3::jsonb
      from import_batch where file_hash = $1 or batch = $2 order by file_hash = $1 desc limit 1
      """, [.text(fileHash), .text(name), .text(options)], operation: "read imports")
    guard !rows.isEmpty else { return nil }
    return Known(
      name: rows.text(0, 0)!, fileHash: rows.text(0, 1)!, fileName: rows.text(0, 2)!,
      format: rows.text(0, 3)!, oldestTime: rows.text(0, 4)!, isFinished: rows.boolean(0, 5),
      startedAt: rows.text(0, 6)!, finishedAt: rows.text(0, 7), hasSameOptions: rows.boolean(0, 8))
  }

  /// Registers a batch. It also creates the partitions of the months that the batch reaches, so
  /// that its rows have a place.
  package func register(_ batch: Batch) throws(PostgresError) {
    try connection.query(
      """
      insert into import_batch (batch, file_hash, file_name, format, options, oldest_time, producer)
      values ($1, $2, $3, $4, $5::jsonb, $6::timestamptz, $7)
      """,
      [
        .text(batch.name), .text(batch.fileHash), .text(batch.fileName), .text(batch.format),
        .text(batch.options), .text(batch.oldestTime), .text(batch.producer),
      ], operation: "register the import")
    try PartitionStore(connection).makeMissing(monthsAhead: 0)
  }

  /// Stores the progress of the import. `finished` is set once, after the last acknowledgement.
  package func update(
    _ name: String, lines: Int64, events: Int64, rejected: Int64, finished: Bool = false
  ) throws(PostgresError) {
    try connection.query(
      """
      update import_batch set lines_read = $2::bigint, events_sent = $3::bigint, lines_rejected = $4::bigint,
        status = case when $5::boolean then 'finished' else status end,
        finished_at = case when $5::boolean then now() else finished_at end
      where batch = $1
      """,
      [.text(name), .integer(lines), .integer(events), .integer(rejected), .boolean(finished)],
      operation: "write the import's progress")
  }
}
