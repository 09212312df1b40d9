import KafkaTransport
import PostgresStore
import Recount
import ServiceRuntime
import Synchronization

/// Readings of the log on behalf of requests: few at a time, each on a thread of its own with its
/// own connections, since a reading takes seconds and memory.
final class LogReadings: Sendable {
  private let settings: APISettings
  private let running = Atomic<Int>(0)

  /// At a time.
  private static let most = 2
  /// Offsets that one request may read.
  static let mostOffsets: Int64 = 2_000_000
  /// How long one request may read.
  static let seconds = 20

  init(settings: APISettings) { self.settings = settings }

  var recountSettings: RecountSettings {
    RecountSettings(
      maxQuantity: settings.maxQuantity,
      maxEventAgeMilliseconds: settings.maxEventAgeMilliseconds)
  }

  /// - Throws: 503 where Kafka is not configured or does not answer, or others read; what `body` throws.
  func run<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection, LogReader) throws -> T
  ) async throws -> T {
    guard let brokers = settings.kafkaBrokers else {
      throw Problem.unavailable(
        "The log cannot be read: set METER_KAFKA_BROKERS for metering-api.", retryAfter: 3_600)
    }
    guard running.wrappingAdd(1, ordering: .relaxed).newValue <= Self.most else {
      running.wrappingSubtract(1, ordering: .relaxed)
      throw Problem.unavailable("Others read the log now; try again soon.", retryAfter: 2)
    }
    defer { running.wrappingSubtract(1, ordering: .relaxed) }
    return try await withCheckedThrowingContinuation { continuation in
      _ = WorkerThread("log-reading") { [settings] in
        continuation.resume(
          with: Result {
            let connection = try PostgresConnection(
              url: settings.databaseURL, application: "metering-api-log-reading",
              statementTimeoutMilliseconds: 10_000)
            return try body(connection, try Self.reader(brokers, settings))
          }.mapError(Self.told))
      }
    }
  }

  private static func reader(_ brokers: String, _ settings: APISettings) throws -> LogReader {
    var configuration = try KafkaConfiguration(
      brokers: brokers, propertiesFile: settings.kafkaConfigFile)
    // Less than what an operator's tool takes: requests come at any time.
    configuration.set("queued.min.messages", "20000")
    configuration.set("queued.max.messages.kbytes", "16384")
    let reader = try LogReader(
      configuration, clientID: "metering-api-log-reading", stallTimeoutMilliseconds: 10_000)
    try reader.awaitBroker(timeoutMilliseconds: 5_000)
    return reader
  }

  private static func told(_ error: any Error) -> any Error {
    guard let kafka = error as? KafkaError else {
      if let postgres = error as? PostgresError, postgres.isConnectionLost {
        return DatabaseUnavailable.away(postgres)
      }
      return error
    }
    return kafka.isOffsetOutOfRange
      ? Problem.unavailable("The log was shortened while it was read; try again.")
      : Problem.unavailable("Kafka does not answer; try again soon.", retryAfter: 5)
  }
}
