import KafkaTransport
import PostgresStore
import Recount
import ServiceRuntime

/// Reads the log on behalf of requests. A reading takes seconds and memory, so only a few run at
/// the same time, one for each customer. Each has its own thread and its own connections.
final class LogReadings: Sendable {
  private let settings: APISettings
  private let places = Places(
    most: LogReadings.most, ofCustomers: LogReadings.most - 1, ofOne: 1)

  /// How many readings run at the same time. One of them is the vendor's.
  private static let most = 3
  /// How many offsets one request may read.
  static let mostOffsets: Int64 = 2_000_000
  /// How long one request may read, in seconds.
  static let seconds = 20

  init(settings: APISettings) { self.settings = settings }

  var recountSettings: RecountSettings {
    RecountSettings(
      maxQuantity: settings.maxQuantity,
      maxEventAgeMilliseconds: settings.maxEventAgeMilliseconds)
  }

  /// - Parameters:
  ///   - caller: whose request it is.
  ///   - patience: how long to wait while too many others read.
  /// - Throws: 503 if Kafka is not configured or does not answer, or if too many others read. Any
  ///   error of `body`.
  func run<T: Sendable>(
    for caller: Caller, patience: Duration = .zero,
    _ body: @escaping @Sendable (PostgresConnection, LogReader) throws -> T
  ) async throws -> T {
    guard let brokers = settings.kafkaBrokers else {
      throw Problem.unavailable(
        "The log cannot be read. Set METER_KAFKA_BROKERS for metering-api.", retryAfter: 3_600)
    }
    let deadline = ContinuousClock.now + patience
    var place = places.take(for: caller.customerID)
    while place == nil {
      guard ContinuousClock.now < deadline else {
        throw Problem.unavailable(
          "Other requests are reading the log. Try again soon.", retryAfter: 2)
      }
      try await Task.sleep(for: .milliseconds(100))
      place = places.take(for: caller.customerID)
    }
    defer { withExtendedLifetime(place) {} }
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
    // This is less than an operator's tool takes, because requests may come at any time.
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
      ? Problem.unavailable("The log was shortened while it was read. Try again.")
      : Problem.unavailable("Kafka does not answer. Try again soon.", retryAfter: 5)
  }
}
