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
        do {
          _ = try await database.write { try IdempotencyStore($0).forget() }
        } catch is DatabaseUnavailable {
          // The next round does it.
        } catch {
          logger.warning("\(error)", metadata: ["task": "forget idempotency keys"])
        }
        // It ends early where the service stops.
        try? await Task.sleep(for: Self.pause)
      }
    }
  }
}
