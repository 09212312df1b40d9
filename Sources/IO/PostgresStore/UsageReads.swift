/// The reads of `meterctl reconcile`, `explain` and `status`, from the views and from the storage
/// below them.
///
/// Times are in epoch minutes (minutes since 1970, UTC). Sums have 128 bits, so that a check cannot
/// overflow where the checked numbers did not.
package struct UsageReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) {
    self.connection = connection
  }

  /// A range from (inclusive) to (exclusive). Nil stands for no bound.
  package struct Minutes: Sendable, Equatable {
    package var from: Int64?
    package var to: Int64?

    package init(from: Int64? = nil, to: Int64? = nil) {
      self.from = from
      self.to = to
    }

    package func contains(_ start: Int64, length: Int64) -> Bool {
      from.map { $0 <= start } ?? true && to.map { start + length <= $0 } ?? true
    }

    /// The same range, extended to whole windows of `length` minutes.
    package func widened(to length: Int64) -> Minutes {
      func floor(_ value: Int64) -> Int64 {
        let rest = value % length
        return value - (rest < 0 ? rest + length : rest)
      }
      return Minutes(from: from.map(floor), to: to.map { floor($0 + length - 1) })
    }

    /// A condition on a column of timestamptz. It contains only integers, so nothing needs quotes.
    func condition(_ column: String) -> String {
      var parts = ["true"]
      if let from { parts.append("\(column) >= to_timestamp(\(from)::bigint * 60)") }
      if let to { parts.append("\(column) < to_timestamp(\(to)::bigint * 60)") }
      return parts.joined(separator: " and ")
    }
  }

  /// Runs `body` in a read-only transaction at one snapshot. The server ends a transaction that is
  /// idle for 10 s.
  package func atOneSnapshot<T>(_ body: () throws -> T) throws -> T {
    try connection.transaction("begin transaction isolation level repeatable read read only") {
      // The sums of a whole database take longer than what the services ask. The answers are read
      // to their end, so a plan must not prefer the first rows of a cursor.
      try connection.execute(
        """
        set local statement_timeout = '15min';
        set local cursor_tuple_fraction = 1;
        set local work_mem = '64MB'
        """)
      return try body()
    }
  }

  /// Milliseconds since 1970 by the server's clock.
  package func serverMilliseconds() throws(PostgresError) -> Int64 {
    let rows = try connection.query(
      "select (extract(epoch from now()) * 1000)::bigint", operation: "read the clock")
    return rows.integer(0, 0) ?? 0
  }

  // MARK: Pages

  /// Reads with a cursor, so that only a page of the answer is held in memory. It must run within a
  /// transaction.
  func forEachPage(
    _ sql: String, _ operation: String, _ body: (SQLRows, Int) throws -> Void
  ) throws {
    let pageRows = 20_000
    try connection.query("declare audit_page no scroll cursor for \(sql)", operation: operation)
    while true {
      let rows = try connection.query("fetch \(pageRows) from audit_page", operation: operation)
      for i in rows.rows.indices { try body(rows, i) }
      if rows.rows.count < pageRows { break }
    }
    try connection.query("close audit_page", operation: operation)
  }

  /// Quotes a text for SQL, because a cursor's statement takes no parameters.
  static func literal(_ text: String) -> String {
    // The form E'' means the same whether or not `standard_conforming_strings` is on.
    var quoted = "E'"
    for scalar in text.unicodeScalars {
      if scalar == "'" || scalar == "\\" { quoted.unicodeScalars.append(scalar) }
      if scalar != "\0" { quoted.unicodeScalars.append(scalar) }
    }
    return quoted + "'"
  }

  static func wide(_ rows: SQLRows, _ row: Int, _ column: Int) -> Int128 {
    rows.text(row, column).flatMap { Int128($0) } ?? 0
  }
}
