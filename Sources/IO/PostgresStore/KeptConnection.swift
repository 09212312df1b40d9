import Metering

extension PostgresConnection {
  /// Opens a connection to a database whose schema this build can work with.
  ///
  /// - Throws: `PostgresError`, with `isOfSchema` if the schema does not fit.
  package static func toKnownSchema(
    url: String, application: String, statementTimeoutMilliseconds: Int = 60_000
  ) throws(PostgresError) -> PostgresConnection {
    let opened = try PostgresConnection(
      url: url, application: application,
      statementTimeoutMilliseconds: statementTimeoutMilliseconds)
    if let problem = try Schema.state(opened).problem { throw .ofSchema(problem) }
    return opened
  }
}

extension PostgresError {
  private static let schemaOperation = "check the schema"

  fileprivate static func ofSchema(_ problem: String) -> PostgresError {
    PostgresError(sqlState: SQLState.system, operation: schemaOperation, message: problem)
  }

  /// Whether the database's schema does not fit this build. The message says what to do.
  package var isOfSchema: Bool {
    operation == Self.schemaOperation && sqlState == SQLState.system
  }
}

/// The connection of a thread that works for as long as the process lives. It is opened when it is
/// first needed, kept, and opened again after an error. Each thread decides how long it pauses.
package struct KeptConnection: ~Copyable {
  private let url: String
  private let application: String
  private let statementTimeoutMilliseconds: Int
  private let checksSchema: Bool
  private var connection: PostgresConnection?

  /// - Parameters:
  ///   - application: shown in `pg_stat_activity`.
  ///   - statementTimeoutMilliseconds: 0 waits for ever.
  ///   - checksSchema: false if another thread of the process checks it.
  package init(
    url: String, application: String, statementTimeoutMilliseconds: Int = 60_000,
    checksSchema: Bool = true
  ) {
    self.url = url
    self.application = application
    self.statementTimeoutMilliseconds = statementTimeoutMilliseconds
    self.checksSchema = checksSchema
  }

  /// The connection, opened if there is none.
  ///
  /// - Throws: `PostgresError`, with `isOfSchema` if the schema does not fit.
  package mutating func open() throws(PostgresError) -> PostgresConnection {
    if let connection { return connection }
    let opened =
      checksSchema
      ? try PostgresConnection.toKnownSchema(
        url: url, application: application,
        statementTimeoutMilliseconds: statementTimeoutMilliseconds)
      : try PostgresConnection(
        url: url, application: application,
        statementTimeoutMilliseconds: statementTimeoutMilliseconds)
    connection = opened
    return opened
  }

  package mutating func close() { connection = nil }

  /// Closes the connection if the server or the network has ended it. An error of a statement
  /// leaves it open.
  package mutating func closeIfLost() {
    if connection?.isOpen != true { connection = nil }
  }
}
