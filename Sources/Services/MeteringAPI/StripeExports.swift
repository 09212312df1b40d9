import Billing
import Logging
import PostgresStore
import ServiceLifecycle
import StripeExport
import Synchronization

/// Exports to Stripe that go on when the client that asked for one has left, and that a process
/// which died left behind.
final class StripeExports: Service {
  private let settings: StripeSettings
  private let client: StripeClient
  private let databaseURL: String
  private let needsLog: Bool
  private let logger: Logger
  private let tasks = Mutex<[Int: Task<StripeExportReport, any Error>]>([:])
  private let number = Atomic<Int>(0)

  /// What is planned, once it is.
  private final class Planned: Sendable {
    let report = Mutex<StripeExportReport?>(nil)
  }

  /// How long a client waits before it is told that the export goes on.
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

  /// Exports, and answers with what came of it; after a while with what is planned, and goes on.
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
    // It still plans: there is nothing that could be told yet but how it ends.
    return try await task.value
  }

  /// The task's value; nil where it takes longer. The task goes on.
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
        // It ends early where the other was first.
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

  /// Ends what was left behind, until the service stops.
  func run() async throws {
    await cancelWhenGracefulShutdown { [self] in
      while !Task.isCancelled {
        await resume()
        // It ends early where the service stops.
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
      // Whoever exports sends these as well.
    } catch is DatabaseUnavailable {
      // The next round does it.
    } catch is CancellationError {
      // The service stops.
    } catch {
      logger.warning("\(error)", metadata: ["task": "export to Stripe"])
    }
  }
}
