internal import CLibPQ
import Metering

/// One connection, which one thread uses at a time. Every call blocks that thread, so code on the
/// cooperative pool makes none.
///
/// It owns the `PGconn` and frees it in `deinit`. Every connection limits its waits: 5 s for
/// connecting, 10 s for TCP without acknowledgement, 5 s for a lock, the given time for a
/// statement, and 10 s for an open transaction without a command. A stopped process therefore
/// cannot hold up others for longer, and this one cannot hang on a dead peer. If a peer
/// acknowledges and never answers, as a proxy may, the connection is given up 10 s after the
/// statement's own limit: see `awaitAnswer`.
package final class PostgresConnection {
  let connection: OpaquePointer
  /// How long one answer may take; nil for any time.
  let answerMilliseconds: Int?
  /// The statements that are prepared; see `pipeline`.
  var kept = KeptStatements()

  /// - Parameters:
  ///   - url: a libpq URI or keyword string.
  ///   - application: shown in `pg_stat_activity`.
  ///   - statementTimeoutMilliseconds: 0 waits for ever.
  ///   - graceMilliseconds: how much longer the server may take to report a timeout.
  /// - Throws: `PostgresError` with the server's or libpq's reason, never with the URL.
  package init(
    url: String, application: String, statementTimeoutMilliseconds: Int = 60_000,
    graceMilliseconds: Int = 10_000
  ) throws(PostgresError) {
    answerMilliseconds =
      statementTimeoutMilliseconds > 0 ? statementTimeoutMilliseconds + graceMilliseconds : nil
    if let problem = DatabaseURL.problem(url) {
      throw PostgresError(sqlState: SQLState.cannotConnect, operation: "connect", message: problem)
    }
    let keys = [
      "dbname", "fallback_application_name", "connect_timeout", "keepalives_idle",
      "keepalives_interval", "keepalives_count", "tcp_user_timeout", "client_encoding",
    ]
    let values = [url, application, "5", "5", "2", "3", "10000", "UTF8"]
    let opened = Self.withCStrings(keys) { keys in
      Self.withCStrings(values) { values in PQconnectdbParams(keys, values, 1) }
    }
    guard let opened else {
      throw PostgresError(sqlState: SQLState.system, operation: "connect", message: "out of memory")
    }
    // From here on, every throw runs `deinit`, which frees the connection.
    connection = opened
    guard PQstatus(opened) == CONNECTION_OK else {
      let message = Self.withoutAddresses(String(cString: PQerrorMessage(opened)), url)
      let state = ConnectRefusal(message: message)?.sqlState ?? SQLState.cannotConnect
      throw PostgresError(sqlState: state, operation: "connect", message: message)
    }
    // Nobody reads the notices of migrations and of IF NOT EXISTS.
    PQsetNoticeProcessor(opened, { _, _ in }, nil)
    try execute(
      """
      set statement_timeout = \(statementTimeoutMilliseconds); set lock_timeout = 5000;
      set idle_in_transaction_session_timeout = 10000; set timezone = 'UTC';
      set datestyle = 'ISO, YMD'; set intervalstyle = 'iso_8601'; set bytea_output = 'hex'
      """)
  }

  deinit { PQfinish(connection) }

  /// Whether the last answer left the connection usable.
  package var isOpen: Bool { PQstatus(connection) == CONNECTION_OK }
  package var backendPID: Int32 { PQbackendPID(connection) }

  // MARK: Statements

  /// Runs SQL without parameters. Several statements may be separated by semicolons.
  package func execute(_ sql: String) throws(PostgresError) {
    _ = try take(answer(sent: PQsendQuery(connection, sql)), "execute")
  }

  /// Sends an empty statement to find out whether the server is still there.
  package func probe() throws(PostgresError) { try execute("select") }

  /// Runs one statement with parameters `$1`…, and returns its rows.
  @discardableResult
  package func query(
    _ sql: String, _ parameters: [SQLValue] = [], operation: String = "query"
  ) throws(PostgresError) -> SQLRows {
    let encoded = try SQLParameters(parameters, operation)
    let result = encoded.withPointers { count, values, lengths, formats in
      answer(
        sent: PQsendQueryParams(connection, sql, count, nil, values, lengths, formats, 0))
    }
    return try take(result, operation)
  }

  /// Runs one statement like `query`, and returns what `make` makes of each row. A large answer is
  /// not kept as texts.
  package func query<T>(
    _ sql: String, _ parameters: [SQLValue] = [], operation: String, each make: (SQLRow) -> T
  ) throws(PostgresError) -> [T] {
    let encoded = try SQLParameters(parameters, operation)
    let result = encoded.withPointers { count, values, lengths, formats in
      answer(
        sent: PQsendQueryParams(connection, sql, count, nil, values, lengths, formats, 0))
    }
    guard let result else { throw failure(operation) }
    guard PQresultStatus(result) == PGRES_TUPLES_OK else {
      _ = try take(result, operation)
      return []
    }
    defer { PQclear(result) }
    return (0..<PQntuples(result)).map { make(SQLRow(result: result, row: $0)) }
  }

  /// Lets the server ask the disk for up to 64 blocks of a table at a time, if its system can do
  /// that.
  package func askForBlocksTogether() throws(PostgresError) {
    try query(
      """
      select set_config(name, '64', false) from pg_settings
      where case name when 'effective_io_concurrency' then max_val::int >= 64 end
      """, operation: "ask for blocks together")
  }

  /// The bytes of the first column of the first row, which has the type bytea. They are empty if
  /// there is no row.
  package func bytes(
    _ sql: String, _ parameters: [SQLValue], operation: String
  ) throws(PostgresError) -> [UInt8] {
    let result = try SQLParameters(parameters, operation).withPointers {
      count, values, lengths, formats in
      answer(
        sent: PQsendQueryParams(connection, sql, count, nil, values, lengths, formats, 1))
    }
    guard let result else { throw failure(operation) }
    guard PQresultStatus(result) == PGRES_TUPLES_OK, PQntuples(result) > 0 else {
      _ = try take(result, operation)
      return []
    }
    defer { PQclear(result) }
    return Array(
      UnsafeRawBufferPointer(
        start: PQgetvalue(result, 0, 0), count: Int(PQgetlength(result, 0, 0))))
  }

  /// Whether a transaction is open and has not failed.
  package var isInTransaction: Bool { PQtransactionStatus(connection) == PQTRANS_INTRANS }

  /// Runs `body` between BEGIN and COMMIT, with ROLLBACK after any error. Within an open
  /// transaction `body` becomes a part of that one, so that a store's write and its caller's are
  /// kept together or not at all.
  package func transaction<T>(
    _ begin: String = "begin", _ body: () throws -> T
  ) throws -> T {
    if isInTransaction { return try body() }
    try execute(begin)
    do {
      let value = try body()
      try execute("commit")
      return value
    } catch {
      // The first error is thrown. The owner closes a connection that cannot roll back.
      try? execute("rollback")
      throw error
    }
  }

  /// Sends statements followed by COMMIT as one message, so that their locks live for one round
  /// trip.
  ///
  /// - Throws: the first statement's error, or the commit's. The transaction is over then. With
  ///   `isConnectionLost` its fate is unknown.
  package func commit(
    with statements: [SQLStatement], operation: String
  ) throws(PostgresError) {
    var encoded: [(sql: String, parameters: SQLParameters)] = []
    do throws(PostgresError) {
      for one in statements {
        encoded.append((one.sql, try SQLParameters(one.parameters, operation)))
      }
    } catch {
      // The first error is thrown. The owner closes a connection that cannot roll back.
      try? execute("rollback")
      throw error
    }
    guard PQenterPipelineMode(connection) == 1 else { throw failure(operation) }
    let sent = encoded.allSatisfy { statement in
      statement.parameters.withPointers { count, values, lengths, formats in
        PQsendQueryParams(connection, statement.sql, count, nil, values, lengths, formats, 0)
      } == 1
    }
    guard sent, PQsendQueryParams(connection, "commit", 0, nil, nil, nil, nil, 0) == 1,
      PQpipelineSync(connection) == 1
    else {
      let error = failure(operation)
      PQexitPipelineMode(connection)
      throw error
    }
    var first: PostgresError?
    var synced = false
    while !synced {
      awaitAnswer()
      guard let result = PQgetResult(connection) else {
        // Null separates the answers of the pipeline. On a lost connection nothing follows.
        if PQstatus(connection) != CONNECTION_OK {
          if first == nil { first = failure(operation) }
          break
        }
        continue
      }
      switch PQresultStatus(result) {
      case PGRES_PIPELINE_SYNC: synced = true
      case PGRES_FATAL_ERROR: if first == nil { first = Self.error(result, operation, connection) }
      default: break
      }
      PQclear(result)
    }
    PQexitPipelineMode(connection)
    if let first {
      if !first.isConnectionLost { try? execute("rollback") }
      throw first
    }
  }

  // MARK: Results

  func take(_ result: OpaquePointer?, _ operation: String) throws(PostgresError) -> SQLRows {
    guard let result else { throw failure(operation) }
    defer { PQclear(result) }
    switch PQresultStatus(result) {
    case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: break
    default: throw Self.error(result, operation, connection)
    }
    return Self.rows(result)
  }

  static func rows(_ result: OpaquePointer) -> SQLRows {
    let columns = (0..<PQnfields(result)).map { String(cString: PQfname(result, $0)) }
    let rows = (0..<PQntuples(result)).map { row in
      (0..<Int32(columns.count)).map { column -> String? in
        if PQgetisnull(result, row, column) == 1 { return nil }
        let bytes = UnsafeRawBufferPointer(
          start: PQgetvalue(result, row, column), count: Int(PQgetlength(result, row, column)))
        return String(decoding: bytes, as: UTF8.self)
      }
    }
    let affected = Int(String(cString: PQcmdTuples(result))) ?? 0
    return SQLRows(columns: columns, rows: rows, affected: affected)
  }

  func failure(_ operation: String) -> PostgresError {
    let lost = PQstatus(connection) != CONNECTION_OK
    let message = Self.firstLine(String(cString: PQerrorMessage(connection)))
    return PostgresError(
      sqlState: lost ? SQLState.connectionFailure : SQLState.system, operation: operation,
      message: message)
  }

  static func error(
    _ result: OpaquePointer, _ operation: String, _ connection: OpaquePointer
  ) -> PostgresError {
    func field(_ code: Character) -> String? {
      PQresultErrorField(result, Int32(code.asciiValue!)).map { String(cString: $0) }
    }
    let lost = PQstatus(connection) != CONNECTION_OK
    return PostgresError(
      sqlState: field("C") ?? (lost ? SQLState.connectionFailure : SQLState.system),
      operation: operation,
      message: field("M") ?? firstLine(String(cString: PQresultErrorMessage(result))),
      detail: field("D"))
  }

  private static func firstLine(_ text: String) -> String {
    String(text.split(separator: "\n").first ?? "the connection is gone")
  }

  /// libpq's message about a failed connection, on one line. It names host and port, which a health
  /// page may show. It must not quote a URI that could not be parsed, because that contains the
  /// password.
  private static func withoutAddresses(_ message: String, _ url: String) -> String {
    if message.contains(url) || message.contains("URI") || message.contains("connection option") {
      return DatabaseURL.malformed
    }
    return message.split(separator: "\n").map { String($0.drop { $0 == "\t" || $0 == " " }) }
      .joined(separator: "; ")
  }

  private static func withCStrings<T>(
    _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> T
  ) -> T {
    let copies = strings.map { string in
      let bytes = Array(string.utf8CString)
      let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
      copy.initialize(from: bytes, count: bytes.count)
      return copy
    }
    defer { for copy in copies { copy.deallocate() } }
    return body(copies.map { UnsafePointer($0) as UnsafePointer<CChar>? } + [nil])
  }
}
