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
  package let sql: String
  package let parameters: [SQLValue]

  package init(_ sql: String, _ parameters: [SQLValue]) {
    self.sql = sql
    self.parameters = parameters
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
