import Billing
import Foundation
import KafkaTransport
import Logging
import Metering
import PostgresStore
import ServiceLifecycle
import ServiceRuntime
import Synchronization

/// Asks Kafka once a second how long the log of usage is, and stores the time up to which
/// everything in it is counted (`Billing.ProgressMachine`). While Kafka does not answer or is not
/// configured, that time does not advance.
///
/// Every process does this independently, and the stored time only grows.
final class LogWatch: Service {
  static let group = ConsumerGroup.aggregator
  static let topic = TopicName.usage
  private static let pauseMilliseconds = 1_000
  private static let timeoutMilliseconds: Int32 = 5_000

  /// The result of the last look.
  struct Look: Sendable {
    /// The number of records that wait to be counted. Nil if Kafka was not asked or did not answer.
    var lag: Int64?
    /// The reason why Kafka did not answer. Nil if it answered, or if it is not configured.
    var problem: String?
  }

  private let settings: APISettings
  private let health: HealthState
  private let logger: Logger
  private let state = Mutex(Look())
  private let isStopping = Atomic<Bool>(false)

  init(settings: APISettings, health: HealthState, logger: Logger) {
    self.settings = settings
    self.health = health
    self.logger = logger
  }

  var look: Look { state.withLock { $0 } }

  func run() async throws {
    let thread = settings.kafkaBrokers.map { brokers in
      WorkerThread("log-watch") { [self] in follow(brokers) }
    }
    // This returns when the service stops.
    try? await gracefulShutdown()
    isStopping.store(true, ordering: .relaxed)
    // A broker that does not answer must not delay the end of the process.
    _ = thread?.join(seconds: 2)
  }

  private func follow(_ brokers: String) {
    var machine = ProgressMachine()
    var kept = KeptConnection(
      url: settings.databaseURL, application: "metering-api-log-watch",
      statementTimeoutMilliseconds: 5_000)
    var reader: LogReader?
    let pulse = health.heartbeat("log watch", .helpful)
    defer { pulse.rest() }
    while !isStopping.load(ordering: .relaxed) {
      pulse.beat()
      do {
        let postgres = try kept.open()
        let kafka = try reader ?? makeReader(brokers)
        reader = kafka
        let lag = try lookOnce(postgres, kafka, &machine)
        state.withLock { $0 = Look(lag: lag, problem: nil) }
      } catch let error as PostgresError {
        kept.close()
        logger.debug("\(error)")
      } catch {
        tell("\(error)")
      }
      pause()
    }
  }

  private func tell(_ problem: String) {
    let isNew = state.withLock { look in
      defer { look = Look(lag: nil, problem: problem) }
      return look.problem == nil
    }
    if isNew { logger.warning("Kafka cannot be asked", metadata: ["reason": "\(problem)"]) }
  }

  private func pause() {
    var left = Self.pauseMilliseconds
    while left > 0, !isStopping.load(ordering: .relaxed) {
      Thread.sleep(forTimeInterval: 0.1)
      left -= 100
    }
  }

  private func makeReader(_ brokers: String) throws -> LogReader {
    let configuration = try KafkaConfiguration(
      brokers: brokers, propertiesFile: settings.kafkaConfigFile)
    // This asks for the ends of all records. A record of an open transaction is received but not
    // counted yet.
    return try LogReader(
      configuration, clientID: "metering-api-log-watch", ends: .ofAllRecords)
  }

  /// - Returns: how many records wait, or nil if a partition did not answer.
  private func lookOnce(
    _ connection: PostgresConnection, _ reader: LogReader, _ machine: inout ProgressMachine
  ) throws -> Int64? {
    let store = ProgressStore(connection)
    // The time and the offsets must be from before the log is asked.
    let before = try store.offsets(group: Self.group, topic: Self.topic)
    guard
      let count = try reader.partitionCount(
        Self.topic, timeoutMilliseconds: Self.timeoutMilliseconds)
    else { throw MissingTopic() }
    let partitions = (0..<Int32(count)).map { TopicPartition(topic: Self.topic, partition: $0) }
    let answers = reader.watermarks(
      of: partitions, timeoutMilliseconds: Self.timeoutMilliseconds)
    let ends = partitions.map { partition -> LogEnds? in
      guard case .success(let ends) = answers[partition] else { return nil }
      return ends
    }
    machine.observe(at: before.at, before: Self.stored(before), ends: ends.map { $0?.high })
    let now = try store.offsets(group: Self.group, topic: Self.topic)
    if let time = machine.advance(Self.stored(now), halted: now.halted) {
      try store.advance(to: time)
    }
    return Self.lag(ends, Self.stored(now))
  }

  private static func stored(_ offsets: ProgressStore.Offsets) -> [Int32: ProgressMachine.Stored] {
    Dictionary(
      offsets.rows.map { ($0.partition, .init(next: $0.next, epoch: $0.epoch)) },
      uniquingKeysWith: { first, _ in first })
  }

  private static func lag(
    _ ends: [LogEnds?], _ stored: [Int32: ProgressMachine.Stored]
  ) -> Int64? {
    var sum: Int64 = 0
    for (partition, end) in ends.enumerated() {
      guard let end else { return nil }
      // Without a row, counting begins at the low watermark.
      sum += max(0, end.high - (stored[Int32(partition)]?.next ?? end.low))
    }
    return sum
  }

  private struct MissingTopic: Error, CustomStringConvertible {
    let description = "the topic \(LogWatch.topic) does not exist, or this client may not read it"
  }
}
