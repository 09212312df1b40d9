import CLibPQ
import Metering

/// Several statements in one message, and statements that are prepared.
extension PostgresConnection {
  /// Runs one statement as `query` does, and plans it only the first few times. It is meant for
  /// short statements whose SQL never changes.
  package func prepared(
    _ sql: String, _ parameters: [SQLValue] = [], operation: String
  ) throws(PostgresError) -> SQLRows {
    var rows = SQLRows(columns: [], rows: [], affected: 0)
    try send([SQLStatement(sql, parameters, .kept)], operation) { _, result in
      rows = Self.rows(result)
    }
    return rows
  }

  /// Sends statements as one message, so that they take one round trip. They are one transaction, or
  /// a part of the open one. With the isolation of `readOnly` they see one snapshot.
  ///
  /// If a preparation no longer holds, for example after a change of the schema, the statement is
  /// prepared again and all statements run once more. Therefore they must be reads.
  ///
  /// - Parameter each: gets the number of a statement and one of its rows, in order, after all
  ///   statements have run.
  /// - Throws: the first error of a statement. Then none of them had an effect.
  package func pipeline(
    _ statements: [SQLStatement], operation: String, each: (Int, SQLRow) -> Void
  ) throws(PostgresError) {
    try send(statements, operation) { number, result in
      for row in 0..<PQntuples(result) { each(number, SQLRow(result: result, row: row)) }
    }
  }

  /// From now on transactions that do not say otherwise see one snapshot and change nothing.
  package func readOnly() throws(PostgresError) {
    try execute(
      "set session characteristics as transaction isolation level repeatable read, read only")
  }

  private func send(
    _ statements: [SQLStatement], _ operation: String, _ read: (Int, OpaquePointer) -> Void
  ) throws(PostgresError) {
    let isRepeatable = !isInTransaction
    do throws(PostgresError) {
      try sendOnce(statements, operation, read)
    } catch {
      guard error.isOfStalePlan else { throw error }
      kept.forgetAll()
      // The owner of the open transaction has to begin it again.
      guard isRepeatable, isOpen else { throw error }
      try sendOnce(statements, operation, read)
    }
  }

  private func sendOnce(
    _ statements: [SQLStatement], _ operation: String, _ read: (Int, OpaquePointer) -> Void
  ) throws(PostgresError) {
    var encoded: [SQLParameters] = []
    for statement in statements {
      encoded.append(try SQLParameters(statement.parameters, operation))
    }
    guard PQenterPipelineMode(connection) == 1 else { throw failure(operation) }
    var pipeline = Pipeline(connection: connection, isInTransaction: isInTransaction)
    var isSent = pipeline.deallocateForgotten(&kept)
    for (number, statement) in statements.enumerated() where isSent {
      isSent = pipeline.send(statement, encoded[number], number, &kept)
    }
    guard isSent, pipeline.finish(&kept) else {
      let error = failure(operation)
      PQexitPipelineMode(connection)
      throw error
    }
    let (results, problem) = answers(to: pipeline.steps, operation)
    defer { for (_, result) in results { PQclear(result) } }
    PQexitPipelineMode(connection)
    if let problem { throw problem }
    for (number, result) in results { read(number, result) }
  }

  /// The results of the statements by their number, and the first error.
  private func answers(
    to steps: [Pipeline.Step], _ operation: String
  ) -> (results: [(Int, OpaquePointer)], problem: PostgresError?) {
    var results: [(Int, OpaquePointer)] = []
    var problem: PostgresError?
    var next = 0
    while true {
      awaitAnswer()
      guard let result = PQgetResult(connection) else {
        // Null separates the answers; on a lost connection nothing follows.
        if isOpen { continue }
        return (results, problem ?? failure(operation))
      }
      let status = PQresultStatus(result)
      if status == PGRES_PIPELINE_SYNC {
        PQclear(result)
        return (results, problem)
      }
      let hasWorked = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK
      if status == PGRES_FATAL_ERROR, problem == nil {
        problem = Self.error(result, operation, connection)
      }
      let step = next < steps.count ? steps[next] : .other
      next += 1
      switch step {
      case .statement(let number) where hasWorked: results.append((number, result))
      case .preparation(let sql) where !hasWorked:
        kept.remove(sql)
        PQclear(result)
      default: PQclear(result)
      }
    }
  }
}

/// Writes one message of several statements.
private struct Pipeline {
  enum Step {
    case preparation(of: String)
    /// By its number.
    case statement(Int)
    /// Its answer tells nothing.
    case other
  }

  let connection: OpaquePointer
  let isInTransaction: Bool
  /// What answers will come, in their order.
  private(set) var steps: [Step] = []
  /// How statements that are prepared are planned now.
  private var mode = Mode.usual

  private enum Mode {
    case usual
    case once
    case onceByBlocks

    init(_ planning: SQLStatement.Planning) {
      switch planning {
      case .eachTime, .kept: self = .usual
      case .once: self = .once
      case .onceByBlocks: self = .onceByBlocks
      }
    }

    /// Holds until the transaction ends.
    var sql: String {
      let cache = self == .usual ? "auto" : "force_generic_plan"
      // A plan that is made while a table of waiting rows is empty must fit when it is full. Other
      // statements read tables without an index, and beside such a walk, which costs as if it were
      // forbidden, all plans would look alike.
      return """
        select set_config('plan_cache_mode', '\(cache)', true),
          set_config('enable_seqscan', '\(self == .onceByBlocks ? "off" : "on")', true),
          set_config('enable_indexscan', '\(self == .onceByBlocks ? "off" : "on")', true)
        """
    }
  }

  init(connection: OpaquePointer, isInTransaction: Bool) {
    self.connection = connection
    self.isInTransaction = isInTransaction
  }

  mutating func deallocateForgotten(_ kept: inout KeptStatements) -> Bool {
    guard kept.hasForgotten else { return true }
    kept.deallocatedAll()
    return sendPlain("deallocate all")
  }

  /// - Returns: whether libpq took it.
  mutating func send(
    _ statement: SQLStatement, _ parameters: SQLParameters, _ number: Int,
    _ kept: inout KeptStatements
  ) -> Bool {
    guard enter(Mode(statement.planning), &kept) else { return false }
    if statement.planning == .eachTime {
      steps.append(.statement(number))
      return parameters.withPointers { count, values, lengths, formats in
        PQsendQueryParams(connection, statement.sql, count, nil, values, lengths, formats, 0)
      } == 1
    }
    guard let name = prepare(statement.sql, &kept) else { return false }
    steps.append(.statement(number))
    return Self.execute(connection, name, parameters)
  }

  /// Ends the message.
  mutating func finish(_ kept: inout KeptStatements) -> Bool {
    // Without a transaction around it the setting ends with the message.
    if isInTransaction, !enter(.usual, &kept) { return false }
    return PQpipelineSync(connection) == 1
  }

  private mutating func enter(_ wanted: Mode, _ kept: inout KeptStatements) -> Bool {
    guard wanted != mode else { return true }
    mode = wanted
    guard let name = prepare(wanted.sql, &kept) else { return false }
    steps.append(.other)
    return PQsendQueryPrepared(connection, name, 0, nil, nil, nil, 0) == 1
  }

  /// - Returns: the statement's name; nil where libpq did not take it.
  private mutating func prepare(_ sql: String, _ kept: inout KeptStatements) -> String? {
    if let known = kept.name(of: sql) { return known }
    let (name, evicted) = kept.add(sql)
    if let evicted, !sendPlain("deallocate \(evicted)") { return nil }
    steps.append(.preparation(of: sql))
    return PQsendPrepare(connection, name, sql, 0, nil) == 1 ? name : nil
  }

  private mutating func sendPlain(_ sql: String) -> Bool {
    steps.append(.other)
    return PQsendQueryParams(connection, sql, 0, nil, nil, nil, nil, 0) == 1
  }

  private static func execute(
    _ connection: OpaquePointer, _ name: String, _ parameters: SQLParameters
  ) -> Bool {
    parameters.withPointers { count, values, lengths, formats in
      PQsendQueryPrepared(connection, name, count, values, lengths, formats, 0)
    } == 1
  }
}
