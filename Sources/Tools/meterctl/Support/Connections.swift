import KafkaTransport
import Licensing
import Metering
import PostgresStore
import ServiceRuntime

/// The connections of every command, from the environment: `METER_KAFKA_BROKERS`,
/// `METER_KAFKA_CONFIG_FILE`, `METER_DATABASE_URL`, each also as `NAME_FILE`.
struct Connections {
  /// The consumer group of `usage-aggregator`.
  static let aggregatorGroup = ConsumerGroup.aggregator
  static let usageTopic = TopicName.usage

  let settings: Settings

  init(settings: Settings = Settings()) { self.settings = settings }

  func brokers() throws -> String { try settings[DeclaredSettings.kafkaBrokers] }

  func kafkaConfigFile() throws -> String? {
    try settings[DeclaredSettings.kafkaConfigFile]
  }

  /// The librdkafka settings for any client of the cluster. The constructor takes the `clientID`.
  func kafka() throws -> KafkaConfiguration {
    try KafkaConfiguration(
      brokers: brokers(), propertiesFile: kafkaConfigFile())
  }

  /// How long a command waits for the first answer of any broker.
  static let brokerTimeoutMilliseconds: Int32 = 10_000

  /// A reader for a cluster that has answered.
  ///
  /// - Parameter ends: what counts as the end of a log.
  /// - Throws: an error within 10 s, with the reason for a refused connection if librdkafka knows
  ///   it.
  func logReader(
    _ command: String, ends: LogReader.Ends = .ofReadableRecords
  ) throws -> LogReader {
    let reader = try LogReader(try kafka(), clientID: Self.clientID(command), ends: ends)
    try Patience.during(try kafkaName()) {
      try reader.awaitBroker(timeoutMilliseconds: Self.brokerTimeoutMilliseconds)
    }
    return reader
  }

  /// The same for topics.
  func admin(_ command: String) throws -> KafkaAdmin {
    let admin = try KafkaAdmin(kafka(), clientID: Self.clientID(command))
    try Patience.during(try kafkaName()) {
      try admin.awaitBroker(timeoutMilliseconds: Self.brokerTimeoutMilliseconds)
    }
    return admin
  }

  private func kafkaName() throws -> String { "Kafka at \(try brokers().prefix(200))" }

  /// A missing topic looks the same as one that this client may not see.
  static func missing(_ topic: String) -> Failure {
    Failure(
      "the topic \(topic) is missing, or this client has no right to see it (ACL Describe); "
        + "see: meterctl topics diff")
  }

  /// The key set of `METER_SIGNING_KEY`.
  func signingKeys() throws -> JSONWebKeySet {
    let json = try settings[DeclaredSettings.signingKey]
    do {
      return try JSONWebKeySet(json: json.utf8)
    } catch {
      throw Failure("METER_SIGNING_KEY: \(error)")
    }
  }

  /// Nil if `METER_SIGNING_KEY` is not set.
  func signingKeysIfGiven() throws -> JSONWebKeySet? {
    try settings.optionalString("METER_SIGNING_KEY").map { _ in try signingKeys() }
  }

  /// Shown to brokers and in `pg_stat_activity`.
  static func clientID(_ command: String) -> String { "meterctl-\(command)" }

  /// A connection to a database whose schema this build can work with.
  ///
  /// - Parameters:
  ///   - command: shown in `pg_stat_activity` as `meterctl-<command>`.
  ///   - statementTimeoutMilliseconds: 0 waits for ever.
  /// - Throws: `Failure` with `Schema.State.problem` if the schema does not fit.
  func database(
    _ command: String, statementTimeoutMilliseconds: Int = 60_000
  ) throws -> PostgresConnection {
    let url = try settings[DeclaredSettings.databaseURL]
    do {
      return try Patience.during("PostgreSQL") {
        try PostgresConnection.toKnownSchema(
          url: url, application: Self.clientID(command),
          statementTimeoutMilliseconds: statementTimeoutMilliseconds)
      }
    } catch let error as PostgresError where error.isOfSchema {
      throw Failure(error.message)
    }
  }

  /// Only `migrate` uses this. Every other command checks the schema first.
  func databaseOfAnySchema(
    _ command: String, statementTimeoutMilliseconds: Int
  ) throws -> PostgresConnection {
    let url = try settings[DeclaredSettings.databaseURL]
    return try Patience.during("PostgreSQL") {
      try PostgresConnection(
        url: url, application: Self.clientID(command),
        statementTimeoutMilliseconds: statementTimeoutMilliseconds)
    }
  }
}
