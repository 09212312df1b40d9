import Metering

/// What went wrong with PostgreSQL, with its own code.
///
/// The description holds the primary message and the operation, never parameters, rows or the
/// connection's address: those may hold secrets or customers' data. PostgreSQL's own DETAIL often
/// quotes values, so it is kept apart, for code that expects its own exceptions there.
package struct PostgresError: Error, Sendable, CustomStringConvertible {
  /// The SQLSTATE: of class 08 where the connection itself failed, `SQLState.system` where the
  /// client did.
  package let sqlState: String
  package let operation: String
  package let message: String
  package let detail: String?

  package init(sqlState: String, operation: String, message: String, detail: String? = nil) {
    self.sqlState = sqlState
    self.operation = operation
    self.message = message
    self.detail = detail
  }

  package var description: String { "PostgreSQL, \(operation): \(message) (\(sqlState))" }

  /// The connection is gone: whether a running transaction was committed is unknown.
  package var isConnectionLost: Bool {
    sqlState.hasPrefix("08") || sqlState.hasPrefix("57P") || sqlState == SQLState.idleInTransaction
  }

  /// The same again may well work: serialization failures and deadlocks, lock timeouts, resources,
  /// shutdowns, lost connections.
  package var isRetriable: Bool {
    isConnectionLost || sqlState.hasPrefix("40") || sqlState.hasPrefix("53")
      || sqlState == SQLState.lockNotAvailable
      || sqlState == SQLState.canceled || sqlState.hasPrefix("58")
  }
}
