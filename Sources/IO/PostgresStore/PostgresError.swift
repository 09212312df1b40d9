import Metering

/// An error of PostgreSQL, with its own code.
///
/// The description holds the primary message and the operation, never parameters, rows or the
/// connection's address, because those may contain secrets or customers' data. PostgreSQL's DETAIL
/// often quotes values, so it is kept apart, for code that expects its own exceptions there.
package struct PostgresError: Error, Sendable, CustomStringConvertible {
  /// The SQLSTATE. It has class 08 if the connection itself failed, and is `SQLState.system` if the
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

  /// The connection is gone. Whether an open transaction was committed is unknown.
  package var isConnectionLost: Bool {
    sqlState.hasPrefix("08") || sqlState.hasPrefix("57P") || sqlState == SQLState.idleInTransaction
  }

  /// Trying again may succeed: serialization failures and deadlocks, lock timeouts, resources,
  /// shutdowns, lost connections.
  package var isRetriable: Bool {
    isConnectionLost || sqlState.hasPrefix("40") || sqlState.hasPrefix("53")
      || sqlState == SQLState.lockNotAvailable
      || sqlState == SQLState.canceled || sqlState.hasPrefix("58")
  }

  /// What was prepared no longer holds: the schema changed, or something took it away.
  package var isOfStalePlan: Bool {
    sqlState == SQLState.notSupported || sqlState == SQLState.unknownStatement
  }
}
