import Foundation
import PostgresStore

/// A PostgreSQL server of Debian's packages, on a free port, with its own folder below the
/// temporary one.
///
/// PostgreSQL refuses to run as root. In that case it runs as the user that Debian's package
/// creates.
package final class PrivatePostgres: @unchecked Sendable {
  // Only the owner calls the methods, one after the other.
  package let folder: String
  package let port: Int
  package static let binaries: String = {
    if let given = ProcessInfo.processInfo.environment["METER_TEST_PG_BIN"] { return given }
    let versions =
      (try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib/postgresql")) ?? []
    let newest = versions.max { (Int($0) ?? 0) < (Int($1) ?? 0) } ?? "15"
    return "/usr/lib/postgresql/\(newest)/bin"
  }()

  package static var isInstalled: Bool {
    FileManager.default.isExecutableFile(atPath: binaries + "/initdb")
  }

  /// The prefix of commands that run as a user whom PostgreSQL accepts. It is `METER_TEST_PG_RUN`,
  /// or Debian's user if this process is root.
  private static let prefix: [String] = {
    if let given = ProcessInfo.processInfo.environment["METER_TEST_PG_RUN"] {
      return given.split(separator: " ").map(String.init)
    }
    return getuid() == 0 ? ["runuser", "-u", "postgres", "--"] : []
  }()

  /// A folder in which that user may make folders.
  private static let temporaryFolder: String = {
    let given = ProcessInfo.processInfo.environment["METER_TEST_PG_TMP"] ?? ""
    return given.isEmpty ? "/tmp" : given
  }()

  /// Starts with fsync on, as in production.
  package init(settings: [String: String] = [:]) throws {
    folder = Self.temporaryFolder + "/metering-pg-" + UUID().uuidString.prefix(8)
    port = try FreePort.next()
    // It runs as the server's own user, who must own the folder.
    try Self.run([
      Self.binaries + "/initdb", "-D", folder + "/data", "-A", "trust", "-U", "metering",
      "--no-locale", "-E", "UTF8", "--no-sync",
    ])
    // There is no socket, because the paths of sockets must be short and those of projects are not.
    var lines = [
      "port = \(port)", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''",
      "max_connections = 200", "shared_buffers = 256MB", "max_wal_size = 4GB",
      "log_min_messages = fatal", "timezone = 'UTC'",
    ]
    lines += settings.map { "\($0) = '\($1)'" }
    try Self.run(
      [
        "sh", "-c", #"printf '%s\n' "$@" >> "$0""#, folder + "/data/postgresql.conf",
      ] + lines)
    try start()
  }

  deinit {
    try? stop(mode: "immediate")
    // The user who made the folder removes it. Files that cannot be removed are in a temporary
    // folder.
    try? Self.run(["rm", "-rf", folder])
  }

  package func start() throws {
    try Self.run([
      Self.binaries + "/pg_ctl", "-D", folder + "/data", "-l", folder + "/log", "-w", "-t", "60",
      "start",
    ])
  }

  /// `fast` is a clean end. `immediate` is a crash without a checkpoint, so the next start
  /// recovers.
  package func stop(mode: String = "fast") throws {
    try Self.run([
      Self.binaries + "/pg_ctl", "-D", folder + "/data", "-w", "-m", mode, "stop",
    ])
  }

  /// Keeps a copy of everything that is stored now, for `goBack`.
  package func keepCopy() throws {
    try stop()
    try Self.run(["cp", "-a", folder + "/data", folder + "/kept"])
    try start()
  }

  /// Forgets everything that was stored since `keepCopy`, as a failover to a standby that had not
  /// received it.
  package func goBack() throws {
    try stop(mode: "immediate")
    try Self.run(["rm", "-rf", folder + "/data"])
    try Self.run(["mv", folder + "/kept", folder + "/data"])
    try start()
  }

  package func url(_ database: String = "postgres") -> String {
    "postgresql://metering@127.0.0.1:\(port)/\(database)"
  }

  /// A new database with the schema of this build.
  package func makeDatabase() throws -> String { try Self.makeDatabase(adminURL: url()) }

  static func makeDatabase(adminURL: String, migrated: Bool = true) throws -> String {
    let name = "m" + UUID().uuidString.lowercased().filter { $0 != "-" }.prefix(16)
    let admin = try PostgresConnection(url: adminURL, application: "test")
    try admin.execute("create database \(name)")
    // The last path component is the database.
    let url = String(adminURL[...adminURL.lastIndex(of: "/")!]) + name
    if migrated {
      _ = try Schema.migrate(PostgresConnection(url: url, application: "test"))
    }
    return url
  }

  package var postmasterPID: Int32? {
    (try? String(contentsOfFile: folder + "/data/postmaster.pid", encoding: .utf8))
      .flatMap { $0.split(separator: "\n").first }.flatMap { Int32($0) }
  }

  private static func run(_ command: [String]) throws { try Command.run(prefix + command) }

  /// Runs a command as the server's user.
  package func run(_ command: [String]) throws { try Self.run(command) }

  /// Writes a file of the server's folder, as its user.
  package func write(_ lines: [String], to name: String) throws {
    try run(["sh", "-c", #"printf '%s\n' "$@" > "$0""#, folder + "/" + name] + lines)
  }

  /// Applies changes of the configuration files.
  package func reload() throws {
    try run([Self.binaries + "/pg_ctl", "-D", folder + "/data", "reload"])
  }
}
