import Billing
import Logging
import PostgresStore
import ServiceLifecycle
import StripeExport
import Synchronization

/// Runs exports to Stripe. An export goes on when its client has left. Exports that a dead process
/// left behind are continued.
final class StripeExports: Service {
  private let settings: StripeSettings
  private let client: StripeClient
  private let databaseURL: String
  private let needsLog: Bool
  private let logger: Logger
  private let tasks = Mutex<[Int: Task<StripeExportReport, any Error>]>([:])
  private let number = Atomic<Int>(0)

  /// The plan of an export, once there is one.
  private final class Planned: Sendable {
    let report = Mutex<StripeExportReport?>(nil)
  }

  /// How long a client waits before it is told that the export is still running.
  private static let patience = Duration.seconds(20)
  private static let mostAtATime = 4
  private static let resumePause = Duration.seconds(60)

  init(_ settings: StripeSettings, api: APISettings, logger: Logger) {
    self.settings = settings
    client = StripeClient(settings)
    databaseURL = api.databaseURL
    needsLog = api.kafkaBrokers != nil
    self.logger = logger
  }

  /// Exports and returns the result. If it takes long, it returns the plan and goes on in the
  /// background.
  ///
  /// - Throws: `StripeExportRefusal`, `DatabaseUnavailable`, `PostgresError`.
  func export(
    mode: StripeMode, through: Int64?, by context: AuditContext
  ) async throws -> StripeExportReport {
    let id = number.wrappingAdd(1, ordering: .relaxed).newValue
    let planned = Planned()
    let needsLog = needsLog
    let task = try tasks.withLock { tasks in
      guard tasks.count < Self.mostAtATime else { throw StripeExportRefusal.underway }
      let task = Task {
        defer { self.tasks.withLock { $0[id] = nil } }
        return try await self.makeExporter().export(
          mode: mode, through: through, needsLog: needsLog, by: context
        ) { report in planned.report.withLock { $0 = report } }
      }
      tasks[id] = task
      return task
    }
    let report = try await Self.first(task, within: Self.patience)
    if let report { return report }
    if let report = planned.report.withLock({ $0 }) { return report }
    // There is no plan yet, so the only thing to report is the result.
    return try await task.value
  }

  /// The task's value, or nil if the task takes longer. The task then goes on.
  private static func first(
    _ task: Task<StripeExportReport, any Error>, within time: Duration
  ) async throws -> StripeExportReport? {
    try await withThrowingTaskGroup(of: StripeExportReport?.self) { group in
      let (ended, continuation) = AsyncStream.makeStream(
        of: Result<StripeExportReport, any Error>.self)
      Task {
        continuation.yield(await task.result)
        continuation.finish()
      }
      group.addTask {
        for await result in ended { return try result.get() }
        return nil
      }
      group.addTask {
        // The sleep ends early if the task was first.
        try? await Task.sleep(for: time)
        return nil
      }
      defer { group.cancelAll() }
      return try await group.next() ?? nil
    }
  }

  private func makeExporter() async throws -> StripeExporter {
    let url = databaseURL
    let database = try await StripeDatabase.open {
      do throws(PostgresError) {
        return try PostgresConnection.toKnownSchema(
          url: url, application: "metering-api-export", statementTimeoutMilliseconds: 120_000)
      } catch {
        throw DatabaseUnavailable(error)
      }
    }
    return StripeExporter(database: database, client: client)
  }

  /// Continues exports that were left behind, until the service stops.
  func run() async throws {
    await cancelWhenGracefulShutdown { [self] in
      while !Task.isCancelled {
        await resume()
        // The sleep ends early if the service stops.
        try? await Task.sleep(for: Self.resumePause)
      }
    }
    let running = tasks.withLock { Array($0.values) }
    for task in running { task.cancel() }
    for task in running { _ = await task.result }
    client.close()
  }

  private func resume() async {
    do {
      let (sent, problem) = try await makeExporter().resume()
      if sent > 0 { logger.info("sent \(sent) events of an earlier export to Stripe") }
      if let problem { logger.warning("\(problem)", metadata: ["task": "export to Stripe"]) }
    } catch StripeExportRefusal.underway {
      // The export that runs sends these events as well.
    } catch is DatabaseUnavailable {
      // The next round tries again.
    } catch is CancellationError {
      // The service stops.
    } catch {
      logger.warning("\(error)", metadata: ["task": "export to Stripe"])
    }
  }
}
