import PostgresStore
import ServiceLifecycle
import ServiceRuntime

/// Gives requests access to PostgreSQL. It has a fixed number of threads with a connection each,
/// because libpq blocks.
///
/// It has three lanes that do not hold up each other. They serve reads, writes, and snapshots that
/// are read page by page while a client takes the answer.
///
/// What it guarantees:
/// - A read sees one snapshot, changes nothing, and ends after `readMilliseconds`.
/// - A write is one transaction.
/// - At most `queued` requests wait in a lane, and none waits for longer than
///   `patienceMilliseconds`. Other requests are answered with 503 and `Retry-After`.
struct DatabasePool: Service {
  private let readLane: DatabaseLane
  private let writeLane: DatabaseLane
  private let snapshotLane: DatabaseLane
  private let url: String
  private let health: HealthState

  private static let readers = 8
  private static let writers = 4
  private static let snapshots = 4
  private static let readMilliseconds = 10_000
  private static let writeMilliseconds = 30_000
  /// The time limit for reading one page.
  private static let snapshotMilliseconds = 60_000

  init(url: String, health: HealthState, metrics: MetricsRegistry) {
    self.url = url
    self.health = health
    readLane = DatabaseLane(
      "read", threads: Self.readers, queued: 1_000, url: url,
      statementMilliseconds: Self.readMilliseconds, isReadOnly: true, health: health,
      metrics: metrics)
    writeLane = DatabaseLane(
      "write", threads: Self.writers, queued: 200, url: url,
      statementMilliseconds: Self.writeMilliseconds, health: health, metrics: metrics)
    snapshotLane = DatabaseLane(
      "snapshot", threads: Self.snapshots, queued: 16, url: url,
      statementMilliseconds: Self.snapshotMilliseconds, health: health, metrics: metrics)
    health.report("postgres", problem: "no connection has been opened yet", logs: false)
  }

  /// Runs `body` on a thread of the pool, in a read-only transaction at one snapshot. If the
  /// connection turns out to be lost, the read is tried once more.
  ///
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func read<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await readLane.run(mayRepeat: true) { connection in
      try connection.transaction(Self.beginReading) { try body(connection) }
    }
  }

  /// Runs `body`, which sends a single message to PostgreSQL. It needs no transaction around it,
  /// because one message is read at one snapshot.
  ///
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func readOnce<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await readLane.run(mayRepeat: true, body)
  }

  /// Runs `body` in one transaction. It is never repeated. If the connection is lost at COMMIT, the
  /// outcome is unknown, and the client finds it out with its `Idempotency-Key`.
  ///
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func write<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await writeLane.run(mayRepeat: false) { connection in
      try connection.transaction("begin") { try body(connection) }
    }
  }

  /// Runs `body` with one snapshot that stays open from read to read. PostgreSQL ends it if nothing
  /// is read for 10 s, so that a client that does not take its answer does not hold up vacuum.
  func snapshot<T: Sendable>(
    _ body: (DatabaseSnapshot) async throws -> T
  ) async throws -> T {
    let lease = DatabaseLease()
    let ended = Task { [snapshotLane] in
      try await snapshotLane.run(mayRepeat: false) { connection in
        try connection.transaction(Self.beginReading) { lease.serve(connection) }
      }
    }
    // If the lane never serves the lease, or if the connection breaks, reads end as well.
    Task {
      _ = await ended.result
      lease.end()
    }
    defer { lease.end() }
    do {
      return try await body(DatabaseSnapshot(lease: lease))
    } catch is DatabaseLease.Ended {
      // The error that ended the lease is the reason.
      _ = try await ended.value
      throw DatabaseUnavailable.busy
    }
  }

  private static let beginReading = "begin transaction isolation level repeatable read read only"

  /// Watches whether PostgreSQL is there and its schema fits, until the service stops.
  func run() async throws {
    await cancelWhenGracefulShutdown { await watch() }
    for lane in [readLane, writeLane, snapshotLane] { lane.close() }
  }

  private func watch() async {
    while !Task.isCancelled {
      do {
        try await read { try $0.probe() }
        health.report("postgres", problem: nil)
      } catch let error as PostgresError {
        health.report("postgres", problem: error.refusal ?? error.description)
      } catch DatabaseUnavailable.busy {
        // Many requests read at the moment, so the database answers.
      } catch {
        health.report("postgres", problem: "\(error)")
      }
      // The sleep ends early if the service stops.
      try? await Task.sleep(for: .seconds(1))
    }
  }
}

/// The reason why PostgreSQL cannot be used now.
enum DatabaseUnavailable: Error, Sendable, CustomStringConvertible {
  case away(PostgresError)
  /// The schema does not fit this build.
  case schema(String)
  /// Too many requests wait.
  case busy

  /// Converts the error of a connection that could not be opened.
  init(_ error: PostgresError) {
    self = error.isOfSchema ? .schema(error.message) : .away(error)
  }

  var description: String {
    switch self {
    case .away(let error): error.refusal ?? "PostgreSQL cannot be reached: \(error.message)"
    case .schema(let problem): problem
    case .busy: "too many requests are waiting for PostgreSQL"
    }
  }
}

/// One snapshot of the database, read page by page.
struct DatabaseSnapshot: Sendable {
  fileprivate let lease: DatabaseLease

  /// Runs `body` on the snapshot's thread.
  func read<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await lease.run(body)
  }
}
