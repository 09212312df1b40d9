import Logging
import PostgresStore
import ServiceLifecycle

/// Deletes old rows now and then. Several processes may do it at the same time.
struct Upkeep: Service {
  let database: DatabasePool
  let logger: Logger

  private static let pause = Duration.seconds(300)

  func run() async throws {
    await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        await tidy("forget idempotency keys") { try IdempotencyStore($0).forget() }
        await tidy("forget exports") { try StripeExportStore($0).retain() }
        // The sleep ends early if the service stops.
        try? await Task.sleep(for: Self.pause)
      }
    }
  }

  private func tidy(
    _ task: String, _ body: @escaping @Sendable (PostgresConnection) throws -> Int
  ) async {
    do {
      _ = try await database.write(body)
    } catch is DatabaseUnavailable {
      // The next round tries again.
    } catch {
      logger.warning("\(error)", metadata: ["task": "\(task)"])
    }
  }
}
