import Metering

/// The schema's migrations: numbered SQL files, compiled in.
package enum Schema {
  package struct Migration: Sendable {
    package let version: Int
    package let name: String
    package let sql: String
  }

  /// The migrations to which this build brings a database.
  package static let migrations: [Migration] = [
    Migration(
      version: 1, name: "0001_usage",
      sql: String(decoding: PackageResources.v0001_usage_sql, as: UTF8.self)),
    Migration(
      version: 2, name: "0002_alerts",
      sql: String(decoding: PackageResources.v0002_alerts_sql, as: UTF8.self)),
    Migration(
      version: 3, name: "0003_limits",
      sql: String(decoding: PackageResources.v0003_limits_sql, as: UTF8.self)),
    Migration(
      version: 4, name: "0004_access",
      sql: String(decoding: PackageResources.v0004_access_sql, as: UTF8.self)),
    Migration(
      version: 5, name: "0005_detector",
      sql: String(decoding: PackageResources.v0005_detector_sql, as: UTF8.self)),
    Migration(
      version: 6, name: "0006_producers",
      sql: String(decoding: PackageResources.v0006_producers_sql, as: UTF8.self)),
    Migration(
      version: 7, name: "0007_forwarding",
      sql: String(decoding: PackageResources.v0007_forwarding_sql, as: UTF8.self)),
    Migration(
      version: 8, name: "0008_deliveries",
      sql: String(decoding: PackageResources.v0008_deliveries_sql, as: UTF8.self)),
    Migration(
      version: 9, name: "0009_partition_halt",
      sql: String(decoding: PackageResources.v0009_partition_halt_sql, as: UTF8.self)),
    Migration(
      version: 10, name: "0010_partition_parent",
      sql: String(decoding: PackageResources.v0010_partition_parent_sql, as: UTF8.self)),
    Migration(
      version: 11, name: "0011_totals",
      sql: String(decoding: PackageResources.v0011_totals_sql, as: UTF8.self)),
    Migration(
      version: 12, name: "0012_retention",
      sql: String(decoding: PackageResources.v0012_retention_sql, as: UTF8.self)),
    Migration(
      version: 13, name: "0013_late_limits",
      sql: String(decoding: PackageResources.v0013_late_limits_sql, as: UTF8.self)),
    Migration(
      version: 14, name: "0014_check_names",
      sql: String(decoding: PackageResources.v0014_check_names_sql, as: UTF8.self)),
    Migration(
      version: 15, name: "0015_audit",
      sql: String(decoding: PackageResources.v0015_audit_sql, as: UTF8.self)),
    Migration(
      version: 16, name: "0016_api",
      sql: String(decoding: PackageResources.v0016_api_sql, as: UTF8.self)),
    Migration(
      version: 17, name: "0017_usage_progress",
      sql: String(decoding: PackageResources.v0017_usage_progress_sql, as: UTF8.self)),
    Migration(
      version: 18, name: "0018_billing_views",
      sql: String(decoding: PackageResources.v0018_billing_views_sql, as: UTF8.self)),
    Migration(
      version: 19, name: "0019_audit_checkpoint",
      sql: String(decoding: PackageResources.v0019_audit_checkpoint_sql, as: UTF8.self)),
    Migration(
      version: 20, name: "0020_whole_hours",
      sql: String(decoding: PackageResources.v0020_whole_hours_sql, as: UTF8.self)),
    Migration(
      version: 21, name: "0021_records_retention",
      sql: String(decoding: PackageResources.v0021_records_retention_sql, as: UTF8.self)),
    Migration(
      version: 22, name: "0022_usage_watch",
      sql: String(decoding: PackageResources.v0022_usage_watch_sql, as: UTF8.self)),
    Migration(
      version: 23, name: "0023_periods",
      sql: String(decoding: PackageResources.v0023_periods_sql, as: UTF8.self)),
    Migration(
      version: 24, name: "0024_appending_merges",
      sql: String(decoding: PackageResources.v0024_appending_merges_sql, as: UTF8.self)),
    Migration(
      version: 25, name: "0025_stripe_export",
      sql: String(decoding: PackageResources.v0025_stripe_export_sql, as: UTF8.self)),
    Migration(
      version: 26, name: "0026_meter_hours",
      sql: String(decoding: PackageResources.v0026_meter_hours_sql, as: UTF8.self)),
    Migration(
      version: 27, name: "0027_queue_places",
      sql: String(decoding: PackageResources.v0027_queue_places_sql, as: UTF8.self)),
    Migration(
      version: 28, name: "0028_traces",
      sql: String(decoding: PackageResources.v0028_traces_sql, as: UTF8.self)),
    Migration(
      version: 29, name: "0029_pending_places",
      sql: String(decoding: PackageResources.v0029_pending_places_sql, as: UTF8.self)),
    Migration(
      version: 30, name: "0030_flush",
      sql: String(decoding: PackageResources.v0030_flush_sql, as: UTF8.self)),
    Migration(
      version: 31, name: "0031_default_months",
      sql: String(decoding: PackageResources.v0031_default_months_sql, as: UTF8.self)),
    Migration(
      version: 32, name: "0032_closing_totals",
      sql: String(decoding: PackageResources.v0032_closing_totals_sql, as: UTF8.self)),
    Migration(
      version: 33, name: "0033_month_attach",
      sql: String(decoding: PackageResources.v0033_month_attach_sql, as: UTF8.self)),
    Migration(
      version: 34, name: "0034_hour_minutes",
      sql: String(decoding: PackageResources.v0034_hour_minutes_sql, as: UTF8.self)),
    Migration(
      version: 35, name: "0035_waiting_of_licenses",
      sql: String(decoding: PackageResources.v0035_waiting_of_licenses_sql, as: UTF8.self)),
    Migration(
      version: 36, name: "0036_review",
      sql: String(decoding: PackageResources.v0036_review_sql, as: UTF8.self)),
    Migration(
      version: 37, name: "0037_signed_statements",
      sql: String(decoding: PackageResources.v0037_signed_statements_sql, as: UTF8.self)),
    Migration(
      version: 38, name: "0038_lost_log",
      sql: String(decoding: PackageResources.v0038_lost_log_sql, as: UTF8.self)),
    Migration(
      version: 39, name: "0039_ledger_of_any_numbers",
      sql: String(decoding: PackageResources.v0039_ledger_of_any_numbers_sql, as: UTF8.self)),
    Migration(
      version: 40, name: "0040_recent_rows",
      sql: String(decoding: PackageResources.v0040_recent_rows_sql, as: UTF8.self)),
  ]
  package static let version = migrations.last!.version

  package enum State: Equatable, Sendable {
    case empty
    case current
    /// The schema is older, and this build cannot work with it.
    case tooOld(Int)
    /// The schema is newer, and no longer compatible with this build.
    case tooNew(Int, minCompatible: Int)

    /// What is wrong and what to do; nil if nothing is wrong.
    package var problem: String? {
      switch self {
      case .current: nil
      case .empty: "the database has no schema; run: meterctl migrate"
      case .tooOld(let v):
        "the schema is at version \(v), this build needs \(Schema.version); run: meterctl migrate"
      case .tooNew(let v, let minimum):
        "the schema is at version \(v) and needs builds for version \(minimum) or later, but this build is for \(Schema.version); install a newer one"
      }
    }
  }

  package static func state(_ connection: PostgresConnection) throws(PostgresError) -> State {
    let table = try connection.query(
      "select to_regclass('schema_version')", operation: "schema version")
    guard table.text(0, 0) != nil else { return .empty }
    let rows = try connection.query(
      "select version, min_compatible from schema_version", operation: "schema version")
    guard let found = rows.integer(0, 0), let minimum = rows.integer(0, 1) else { return .empty }
    if Int(minimum) > version { return .tooNew(Int(found), minCompatible: Int(minimum)) }
    return Int(found) < version ? .tooOld(Int(found)) : .current
  }

  /// Applies missing migrations, each in a separate transaction. An advisory lock makes sure that
  /// two processes that start together apply each of them once.
  ///
  /// - Returns: the names of the applied migrations.
  package static func migrate(_ connection: PostgresConnection) throws -> [String] {
    try connection.execute(
      "set lock_timeout = 0; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0"
    )
    // The lock is tried repeatedly. A statement that waited for it would have a snapshot, and
    // CREATE INDEX CONCURRENTLY of the holder would wait for that in turn.
    while try !connection.tryLockForSession(.migration, operation: "migrate") {
      try connection.query("select pg_sleep(0.05)", operation: "migrate")
    }
    // An error does not matter, because the end of the session releases the lock at the latest.
    defer { try? connection.unlock(.migration, operation: "migrate") }
    let found: Int
    switch try state(connection) {
    case .empty: found = 0
    case .current: found = version
    case .tooOld(let v): found = v
    case .tooNew(let v, _):
      throw PostgresError(
        sqlState: SQLState.system, operation: "migrate",
        message: "the schema is at version \(v), newer than this build's \(version)")
    }
    var applied: [String] = []
    for migration in migrations where migration.version > found {
      if found > 0 { try OnlineIndexes.make(connection, before: migration.version) }
      try connection.transaction { try connection.execute(migration.sql) }
      applied.append(migration.name)
    }
    // These take long and hold up nobody. The next run goes on where one was cut off.
    try PartitionStore(connection).repair()
    try OnlineIndexes.make(connection)
    return applied
  }
}
