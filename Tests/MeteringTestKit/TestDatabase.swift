import Foundation
package import PostgresStore

/// One database of a test, with a connection that is opened again after a restart of the server.
package final class TestDatabase: @unchecked Sendable {
  // One thread uses it, the test's. A second thread makes its own.
  package let url: String
  private var open: PostgresConnection?
  private let timeLimit: Int

  /// - Parameter timeLimit: how many milliseconds a statement may take. 0 is without a limit.
  package init(url: String, timeLimit: Int = 60_000) {
    self.url = url
    self.timeLimit = timeLimit
  }

  /// The database is on the server that `deploy/test` gives, or else on one that this process
  /// starts and ends.
  package convenience init(timeLimit: Int = 60_000) throws {
    self.init(url: try SharedPostgres.makeDatabase(), timeLimit: timeLimit)
  }

  package func connection() throws -> PostgresConnection {
    if let open, open.isOpen { return open }
    let made = try PostgresConnection(
      url: url, application: "test", statementTimeoutMilliseconds: timeLimit)
    open = made
    return made
  }

  package func rows(_ sql: String, _ parameters: [SQLValue] = []) throws -> [[String?]] {
    try connection().query(sql, parameters, operation: "test").rows
  }

  /// Returns nil while the server is down.
  package func rowsIfReachable(_ sql: String) -> [[String?]]? {
    do { return try rows(sql) } catch {
      open = nil
      return nil
    }
  }

  package func integer(_ sql: String) throws -> Int64? {
    try rows(sql).first?.first?.flatMap { Int64($0) }
  }

  package func execute(_ sql: String) throws { try connection().execute(sql) }

  /// Adds a customer and a license, with the anchor that `meterctl license import` would write.
  package func addLicense(_ license: String, anchorDay: Int = 1, domains: [String] = []) throws {
    try connection().transaction {
      try execute(
        "insert into customer (customer_id, name) values ('cus_test', 'test') on conflict do nothing"
      )
      _ = try rows(
        """
        insert into license (license_id, customer_id, plan, domains, issued_at, expires_at, billing_anchor_day)
        values ($1, 'cus_test', 'professional', $2::text[], now(), now() + interval '1 year', $3::int)
        """, [.text(license), .texts(domains), .int(anchorDay)])
      _ = try rows(
        "insert into license_billing_anchor (license_id, effective_from, anchor_day) values ($1, '-infinity', $2::int)",
        [.text(license), .int(anchorDay)])
    }
  }
}

/// One server for all tests that do not break theirs. It is that of `METER_TEST_DATABASE_URL`, or a
/// private one that ends with the process.
package enum SharedPostgres {
  private static let lock = NSLock()
  private nonisolated(unsafe) static var server: PrivatePostgres?  // Guarded by `lock`.

  package static func adminURL() throws -> String {
    if let given = ProcessInfo.processInfo.environment["METER_TEST_DATABASE_URL"], !given.isEmpty {
      return given
    }
    lock.lock()
    defer { lock.unlock() }
    if let server { return server.url() }
    let made = try PrivatePostgres()
    server = made
    // Statics are never freed.
    atexit { SharedPostgres.end() }
    return made.url()
  }

  private static func end() {
    lock.lock()
    server = nil
    lock.unlock()
  }

  /// Makes a new database with the schema of this build.
  package static func makeDatabase(migrated: Bool = true) throws -> String {
    try PrivatePostgres.makeDatabase(adminURL: adminURL(), migrated: migrated)
  }
}
