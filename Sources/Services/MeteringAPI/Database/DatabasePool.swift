import Metering
import PostgresStore
import ServiceLifecycle
import ServiceRuntime

/// Gives requests access to PostgreSQL. It has a fixed number of threads with a connection each,
/// because libpq blocks.
///
/// It has four lanes that do not hold up each other. They serve the look-ups that tell who a caller
/// is, reads, writes, and snapshots that are read page by page while a client takes the answer.
///
/// What it guarantees:
/// - A read sees one snapshot, changes nothing, and ends after `readMilliseconds`.
/// - A write is one transaction.
/// - At most `queued` requests wait in a lane, and none waits for longer than
///   `patienceMilliseconds`. Other requests are answered with 503 and `Retry-After`.
/// - One customer's requests leave half of the readers and writers to others, and all customers'
///   snapshots leave one to the vendor.
struct DatabasePool: Service {
  private let accessLane: DatabaseLane
  private let readLane: DatabaseLane
  private let writeLane: DatabaseLane
  private let snapshotLane: DatabaseLane
  private let url: String
  private let health: HealthState
  private let snapshotPlaces = Places(
    most: .max, ofCustomers: DatabasePool.snapshots - 1, ofOne: 2)
  private let snapshotLimit: Duration

  private static let accessors = 2
  private static let readers = 8
  private static let writers = 4
  private static let snapshots = 4
  private static let readMilliseconds = 10_000
  private static let writeMilliseconds = 30_000
  /// The time limit for reading one page.
  private static let snapshotMilliseconds = 60_000

  /// - Parameter snapshotLimit: how long one answer may hold a snapshot.
  init(
    url: String, health: HealthState, metrics: MetricsRegistry,
    snapshotLimit: Duration = .seconds(600)
  ) {
    self.url = url
    self.health = health
    self.snapshotLimit = snapshotLimit
    accessLane = DatabaseLane(
      "access", threads: Self.accessors, queued: 1_000, url: url,
      statementMilliseconds: Self.readMilliseconds, isReadOnly: true, health: health,
      metrics: metrics)
    readLane = DatabaseLane(
      "read", threads: Self.readers, share: Self.readers / 2, queued: 1_000, url: url,
      statementMilliseconds: Self.readMilliseconds, isReadOnly: true, health: health,
      metrics: metrics)
    writeLane = DatabaseLane(
      "write", threads: Self.writers, share: Self.writers / 2, queued: 200, url: url,
      statementMilliseconds: Self.writeMilliseconds, health: health, metrics: metrics)
    snapshotLane = DatabaseLane(
      "snapshot", threads: Self.snapshots, queued: 16, url: url,
      statementMilliseconds: Self.snapshotMilliseconds, health: health, metrics: metrics)
    health.report("postgres", problem: "no connection has been opened yet", logs: false)
  }

  /// Runs `body`, which sends a single message to find out who a caller is. Nobody's queries hold it
  /// up, and strangers who make up secrets hold up no query.
  ///
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func access<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await accessLane.run(mayRepeat: true, body)
  }

  /// Runs `body` on a thread of the pool, in a read-only transaction at one snapshot. If the
  /// connection turns out to be lost, the read is tried once more.
  ///
  /// - Parameter owner: the customer who asks; nil for the vendor and for the service itself.
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func read<T: Sendable>(
    for owner: Identifier? = nil, _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await readLane.run(mayRepeat: true, for: owner) { connection in
      try connection.transaction(Self.beginReading) { try body(connection) }
    }
  }

  /// Runs `body`, which sends a single message to PostgreSQL. It needs no transaction around it,
  /// because one message is read at one snapshot.
  ///
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func readOnce<T: Sendable>(
    for owner: Identifier?, _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await readLane.run(mayRepeat: true, for: owner, body)
  }

  /// Runs `body` in one transaction. It is never repeated. If the connection is lost at COMMIT, the
  /// outcome is unknown, and the client finds it out with its `Idempotency-Key`.
  ///
  /// - Throws: `DatabaseUnavailable`, `PostgresError`, or any error of `body`.
  func write<T: Sendable>(
    for owner: Identifier? = nil, _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await writeLane.run(mayRepeat: false, for: owner) { connection in
      try connection.transaction("begin") { try body(connection) }
    }
  }

  /// A place among those who hold a snapshot. It must be taken before the answer begins, so that
  /// the client can be told if there is none.
  ///
  /// - Parameter customer: the caller's customer; nil for the vendor.
  /// - Throws: `busy` if the customer or all customers together have their share.
  func snapshotPlace(for customer: Identifier?) throws(DatabaseUnavailable) -> Places.Place {
    guard let place = snapshotPlaces.take(for: customer) else { throw .busy }
    return place
  }

  /// Runs `body` with one snapshot that stays open from read to read. PostgreSQL ends it if nothing
  /// is read for 10 s, so that a client that does not take its answer does not hold up vacuum. After
  /// `snapshotLimit` it ends in any case, and reads throw.
  func snapshot<T: Sendable>(
    _ place: Places.Place, _ body: (DatabaseSnapshot) async throws -> T
  ) async throws -> T {
    let lease = DatabaseLease()
    let clock = Task { [snapshotLimit] in
      try await Task.sleep(for: snapshotLimit)
      lease.end()
    }
    defer {
      clock.cancel()
      withExtendedLifetime(place) {}
    }
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
    for lane in [accessLane, readLane, writeLane, snapshotLane] { lane.close() }
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
