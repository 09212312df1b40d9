import Logging
import PostgresStore
import ServiceLifecycle

/// What has to be tidied up now and then. Any number of processes may do it at a time.
struct Upkeep: Service {
  let database: DatabasePool
  let logger: Logger

  private static let pause = Duration.seconds(300)

  func run() async throws {
    await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        await tidy("forget idempotency keys") { try IdempotencyStore($0).forget() }
        await tidy("forget exports") { try StripeExportStore($0).retain() }
        // It ends early where the service stops.
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
      // The next round does it.
    } catch {
      logger.warning("\(error)", metadata: ["task": "\(task)"])
    }
  }
}
