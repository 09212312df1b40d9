package import Metering

/// A parameter of a statement. It is always sent apart from the SQL.
package enum SQLValue: Sendable {
  case null
  case text(String)
  case integer(Int64)
  case boolean(Bool)
  case bytes([UInt8])
  case texts([String])
  case integers([Int64])
  case optionalIntegers([Int64?])
  case booleans([Bool])

  package static func int(_ value: Int) -> SQLValue { .integer(Int64(value)) }
  package static func optional(_ value: String?) -> SQLValue { value.map { .text($0) } ?? .null }
  package static func identifier(_ value: Identifier) -> SQLValue { .text(value.string) }
  package static func identifiers(_ values: [Identifier]) -> SQLValue {
    .texts(values.map(\.string))
  }
}

/// One statement and its parameters.
package struct SQLStatement: Sendable {
  /// When PostgreSQL plans it.
  package enum Planning: Sendable {
    /// PostgreSQL plans it each time, for the parameters of that time.
    case eachTime
    /// It is prepared. PostgreSQL plans it for the parameters the first five times, and then
    /// decides by the costs whether one plan will do. This suits short statements.
    case kept
    /// It is prepared and planned once, for all parameters. This suits statements whose best plan
    /// does not depend on them, and whose planning takes as long as their execution.
    case once
    /// It is like `once`, for rows in many blocks. The index is read first, so that many blocks are
    /// requested from the disk at a time. Without the parameters, PostgreSQL would expect few rows.
    case onceByBlocks
  }

  package let sql: String
  package let parameters: [SQLValue]
  package let planning: Planning

  package init(_ sql: String, _ parameters: [SQLValue], _ planning: Planning = .eachTime) {
    self.sql = sql
    self.parameters = parameters
    self.planning = planning
  }
}

/// The rows of one answer, in PostgreSQL's text format.
package struct SQLRows: Sendable {
  package let columns: [String]
  package let rows: [[String?]]
  /// Rows written, for statements that return none.
  package let affected: Int

  package var isEmpty: Bool { rows.isEmpty }
  package func text(_ row: Int, _ column: Int) -> String? { rows[row][column] }
  package func integer(_ row: Int, _ column: Int) -> Int64? {
    rows[row][column].flatMap { Int64($0) }
  }
  package func boolean(_ row: Int, _ column: Int) -> Bool { rows[row][column] == "t" }
}
