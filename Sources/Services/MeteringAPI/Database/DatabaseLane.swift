import Foundation
import Metering
import PostgresStore
import ServiceRuntime

/// Threads with a connection each, and the jobs that wait for them.
///
/// The next job goes to the idle thread that worked last. Its connection has probably prepared the
/// statements already, and its data is still in the processor's caches.
final class DatabaseLane: @unchecked Sendable {
  // Everything below `lock` is used with the lock held. A connection belongs to its thread alone.
  private struct Job {
    let owner: Identifier?
    let deadline: Int
    let mayRepeat: Bool
    let run: (PostgresConnection) throws -> Void
    let fail: (any Error) -> Void
  }

  /// A thread that has nothing to do.
  private final class Idle {
    // `job` is written before the signal, and read after it.
    let signal = DispatchSemaphore(value: 0)
    /// Nil if the lane is closed.
    var job: Job?
  }

  private let lock = NSLock()
  private var idle: [Idle] = []
  private var queue: FairQueue<Job>
  private var isClosed = false
  /// The time until which no thread tries to connect, and the reason.
  private var away: (until: Int, error: any Error)?

  private let name: String
  private let url: String
  private let statementMilliseconds: Int
  private let isReadOnly: Bool
  private let seconds: Histogram

  private static let patienceMilliseconds = 10_000
  private static let awayMilliseconds = 500

  /// - Parameters:
  ///   - share: how many threads may work for one customer at the same time; nil for all.
  ///   - queued: how many jobs may wait.
  init(
    _ name: String, threads: Int, share: Int? = nil, queued: Int, url: String,
    statementMilliseconds: Int,
    isReadOnly: Bool = false, health: HealthState, metrics: MetricsRegistry
  ) {
    self.name = name
    queue = FairQueue(limit: queued, share: share ?? threads)
    self.url = url
    self.statementMilliseconds = statementMilliseconds
    self.isReadOnly = isReadOnly
    seconds = metrics.histogram(
      "meter_api_database_seconds", help: "The time of a request to PostgreSQL, by lane.",
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10],
      labels: [("lane", name)])
    for number in 0..<threads {
      // The threads are not joined. Each ends with the statement that it runs, or with the process.
      let pulse = health.heartbeat("database \(name) \(number)", .helpful)
      _ = WorkerThread("database-\(name)-\(number)") { [self] in serve(pulse) }
    }
  }

  /// Jobs that wait are answered. Jobs that run may finish.
  func close() {
    lock.lock()
    isClosed = true
    for thread in idle { thread.signal.signal() }
    idle = []
    lock.unlock()
  }

  /// - Parameters:
  ///   - mayRepeat: whether `body` runs once more, on a new connection, if the connection turns out
  ///     to be lost.
  ///   - owner: the customer who asks; nil for the vendor and for the service itself.
  func run<T: Sendable>(
    mayRepeat: Bool, for owner: Identifier? = nil,
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    let start = Monotonic.milliseconds
    defer { seconds.observe(Double(Monotonic.milliseconds - start) / 1_000) }
    return try await withCheckedThrowingContinuation { continuation in
      let job = Job(
        owner: owner, deadline: start + Self.patienceMilliseconds, mayRepeat: mayRepeat,
        run: { continuation.resume(returning: try body($0)) },
        fail: { continuation.resume(throwing: $0) })
      lock.lock()
      var isTaken = !isClosed
      if isTaken {
        if let thread = idle.last, queue.begin(owner) {
          idle.removeLast()
          thread.job = job
          thread.signal.signal()
        } else {
          isTaken = queue.append(job, of: owner)
        }
      }
      lock.unlock()
      if !isTaken { continuation.resume(throwing: DatabaseUnavailable.busy) }
    }
  }

  /// Ends the thread's last job and waits for the next one. Returns nil once the lane is closed
  /// and no job waits.
  ///
  /// While a thread is idle, only jobs of owners who have their share wait. Such a job is begun by
  /// the thread that ends another job of its owner, so no idle thread has to be woken for it.
  ///
  /// - Parameters:
  ///   - thread: the caller's own entry.
  ///   - owner: the last job's owner.
  private func next(_ thread: Idle, after owner: Identifier?) -> Job? {
    lock.lock()
    queue.finish(owner)
    if let job = queue.next() {
      lock.unlock()
      return job
    }
    if isClosed {
      lock.unlock()
      return nil
    }
    idle.append(thread)
    lock.unlock()
    thread.signal.wait()
    defer { thread.job = nil }
    return thread.job
  }

  private func serve(_ pulse: Heartbeat) {
    var kept: PostgresConnection?
    let thread = Idle()
    var owner: Identifier?
    pulse.rest()
    while let job = next(thread, after: owner) {
      owner = job.owner
      pulse.beat()
      defer { pulse.rest() }
      if Monotonic.milliseconds > job.deadline {
        job.fail(DatabaseUnavailable.busy)
        continue
      }
      do {
        try attempt(job, &kept)
      } catch {
        job.fail(error)
      }
      if kept?.isOpen == false { kept = nil }
    }
  }

  private func attempt(_ job: Job, _ kept: inout PostgresConnection?) throws {
    if !job.mayRepeat, let old = kept {
      // A server that restarted is noticed here, and not in the middle of a write.
      do { try old.probe() } catch { kept = nil }
    }
    let wasKept = kept != nil
    let connection = try kept ?? connect()
    kept = connection
    do {
      try job.run(connection)
    } catch let error as PostgresError where error.isConnectionLost {
      kept = nil
      guard wasKept, job.mayRepeat else { throw DatabaseUnavailable.away(error) }
      let again = try connect()
      kept = again
      try job.run(again)
    } catch let error as PostgresError where error.isOfStalePlan && job.mayRepeat {
      // Its transaction is over, and its prepared statements are gone.
      try job.run(connection)
    }
  }

  private func connect() throws -> PostgresConnection {
    lock.lock()
    let away = away
    lock.unlock()
    if let away, Monotonic.milliseconds < away.until { throw away.error }
    do {
      return try open()
    } catch {
      lock.lock()
      self.away = (Monotonic.milliseconds + Self.awayMilliseconds, error)
      lock.unlock()
      throw error
    }
  }

  private func open() throws -> PostgresConnection {
    do throws(PostgresError) {
      let connection = try PostgresConnection.toKnownSchema(
        url: url, application: "metering-api-\(name)",
        statementTimeoutMilliseconds: statementMilliseconds)
      // Compiling a plan takes longer than most reads. Reads of all licenses add up what waits to
      // be merged, and with the default of 4 MB they did so by way of the disk.
      try connection.execute("set jit = off; set work_mem = '32MB'")
      // Rows of one license lie in many blocks.
      try connection.askForBlocksTogether()
      if isReadOnly { try connection.readOnly() }
      return connection
    } catch {
      throw DatabaseUnavailable(error)
    }
  }
}
