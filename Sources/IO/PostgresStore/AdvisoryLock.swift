package import Metering

/// Advisory locks, by the names and numbers of `SchemaContract`.
extension PostgresConnection {
  /// Waits for a lock that the transaction holds until it ends.
  package func lock(
    _ name: SchemaContract.LockName, _ subject: String = "", operation: String
  ) throws(PostgresError) {
    try query(
      "select pg_advisory_xact_lock(hashtextextended($1, 0))", [.text(name.rawValue + subject)],
      operation: operation)
  }

  /// Takes a lock that the transaction holds until it ends. False if somebody else has it.
  package func tryLock(
    _ name: SchemaContract.LockName, _ subject: String = "", operation: String
  ) throws(PostgresError) -> Bool {
    try query(
      "select pg_try_advisory_xact_lock(hashtextextended($1, 0))", [.text(name.rawValue + subject)],
      operation: operation
    ).boolean(0, 0)
  }

  /// Takes a lock that the connection holds until it closes. False if somebody else has it.
  package func tryLockForSession(
    _ name: SchemaContract.LockName, _ subject: String = "", operation: String
  ) throws(PostgresError) -> Bool {
    try query(
      "select pg_try_advisory_lock(hashtextextended($1, 0))", [.text(name.rawValue + subject)],
      operation: operation
    ).boolean(0, 0)
  }

  /// Takes a lock that the connection holds until `unlock`, or until it closes. False if somebody
  /// else has it.
  package func tryLockForSession(
    _ number: SchemaContract.LockNumber, operation: String
  ) throws(PostgresError) -> Bool {
    try query(
      "select pg_try_advisory_lock($1)", [.integer(number.rawValue)], operation: operation
    ).boolean(0, 0)
  }

  package func unlock(
    _ number: SchemaContract.LockNumber, operation: String
  ) throws(PostgresError) {
    try query(
      "select pg_advisory_unlock($1)", [.integer(number.rawValue)], operation: operation)
  }
}
