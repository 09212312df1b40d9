import KafkaTransport
import Licensing
import PostgresStore
import ServiceRuntime

/// What every command connects to, from the environment: `METER_KAFKA_BROKERS`,
/// `METER_KAFKA_CONFIG_FILE`, `METER_DATABASE_URL`, each also as `NAME_FILE`.
struct Connections {
  /// The consumer group of `usage-aggregator`.
  static let aggregatorGroup = "usage-aggregator"
  static let usageTopic = "license.usage.v1"

  private let settings: Settings

  init(settings: Settings = Settings()) { self.settings = settings }

  func brokers() throws -> String { try settings.required("METER_KAFKA_BROKERS") }

  func kafkaConfigFile() throws -> String? {
    try settings.optionalString("METER_KAFKA_CONFIG_FILE")
  }

  /// The librdkafka settings of any client of the cluster; `clientID` for its constructor.
  func kafka() throws -> KafkaConfiguration {
    try KafkaConfiguration(
      brokers: brokers(), propertiesFile: kafkaConfigFile())
  }

  /// The key set of `METER_SIGNING_KEY`.
  func signingKeys() throws -> JSONWebKeySet {
    let json = try settings.required("METER_SIGNING_KEY")
    do {
      return try JSONWebKeySet(json: json.utf8)
    } catch {
      throw Failure("METER_SIGNING_KEY: \(error)")
    }
  }

  /// Shown to brokers and in `pg_stat_activity`.
  static func clientID(_ command: String) -> String { "meterctl-\(command)" }

  /// A connection to a database whose schema this build can work with.
  ///
  /// - Parameters:
  ///   - command: shown in `pg_stat_activity` as `meterctl-<command>`.
  ///   - statementTimeoutMilliseconds: 0 waits for ever.
  /// - Throws: `Failure` with `Schema.State.problem` where the schema does not fit.
  func database(
    _ command: String, statementTimeoutMilliseconds: Int = 60_000
  ) throws -> PostgresConnection {
    let connection = try databaseOfAnySchema(
      command, statementTimeoutMilliseconds: statementTimeoutMilliseconds)
    if let problem = try Schema.state(connection).problem { throw Failure(problem) }
    return connection
  }

  /// For `migrate` alone: every other command asks for the schema first.
  func databaseOfAnySchema(
    _ command: String, statementTimeoutMilliseconds: Int = 60_000
  ) throws -> PostgresConnection {
    try PostgresConnection(
      url: settings.required("METER_DATABASE_URL"), application: Self.clientID(command),
      statementTimeoutMilliseconds: statementTimeoutMilliseconds)
  }
}
