/// Removes rows whose retention period is over, a bounded number in each statement (see
/// v0021_records_retention.sql).
package struct RetentionStore {
  /// The rows of a statement. There are so few that none holds its locks for long.
  private static let rows = 1_000
  private static let usageRows = 5_000

  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// Removes rows of minutes and hours whose retention period is over.
  ///
  /// - Parameter isStopped: called between two statements, each of which holds its locks briefly.
  package func retainUsage(isStopped: () -> Bool = { false }) throws(PostgresError) {
    while !isStopped() {
      let rows = try connection.query(
        "select usage_retain($1::int)", [.int(Self.usageRows)], operation: "retention")
      if rows.integer(0, 0) ?? 0 == 0 { break }
    }
  }

  /// Removes states of limits whose period is over.
  package func retainLimitStates() throws(PostgresError) {
    try connection.query("select limit_states_retain()", operation: "retention")
  }

  /// Removes old alerts, with their deliveries and attempts.
  ///
  /// - Parameter isStopped: called between two statements.
  package func retainAlerts(isStopped: () -> Bool = { false }) throws(PostgresError) {
    while !isStopped() {
      let rows = try connection.query(
        "select alert_retain($1::int)", [.int(Self.rows)], operation: "retain alerts")
      if rows.integer(0, 0) ?? 0 == 0 { break }
    }
  }

  /// Removes dead letters that the log no longer has.
  package func retainDeadLetters(
    group: String, topic: String, lows: [(partition: Int32, low: Int64)],
    isStopped: () -> Bool = { false }
  ) throws(PostgresError) {
    while !isStopped() {
      let rows = try connection.query(
        "select dead_letter_retain($1, $2, $3::int[], $4::bigint[], $5::int)",
        [
          .text(group), .text(topic), .integers(lows.map { Int64($0.partition) }),
          .integers(lows.map(\.low)), .int(Self.rows),
        ], operation: "retain dead letters")
      if rows.integer(0, 0) ?? 0 == 0 { break }
    }
  }

  /// Removes reports of producers that no partition remembers.
  package func retainReports(
    group: String, topic: String, isStopped: () -> Bool = { false }
  ) throws(PostgresError) {
    var last: String? = ""
    while !isStopped(), let after = last {
      let rows = try connection.query(
        "select producer_report_retain($1, $2, $3, $4::int)",
        [.text(group), .text(topic), .text(after), .int(Self.rows)], operation: "retain reports")
      last = rows.text(0, 0)
    }
  }
}
