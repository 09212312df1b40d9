import EventCodec
package import KafkaTransport
import Metering
import PostgresStore
package import ServiceRuntime
package import UsageAggregation

/// The settings of a consumer of one topic. `--help` of its service lists the variables.
package struct ConsumerSettings: Sendable {
  package var kafka: KafkaConfiguration
  package var databaseURL: String
  package var group: String
  package var topic: String
  package var deadLetterTopic = TopicName.deadLetters
  package var rules = LogAccumulator.Settings()
  /// Whether the process consumes several topics. Problems then name their topic.
  package var isOneOfSeveral = false
  package var dedupeWindowOffsets: Int
  /// How long a single event waits for more before it is flushed.
  package var flushIntervalMilliseconds: Int
  /// The interval while the consumer is behind. Larger flushes write fewer rows.
  package var catchUpFlushIntervalMilliseconds: Int
  /// A flush is due immediately when the batch has this many groups and cells.
  package var maxBatchEntries: Int
  /// How long a failing flush is tried again. After that, the consumer leaves the group until the
  /// database answers.
  package var databasePatienceMilliseconds: Int

  /// - Throws: `ConfigurationError`, one line that names the variable.
  package init(_ settings: Settings, group: String, topic: String) throws {
    self.group = group
    self.topic = topic
    let brokers = try settings[DeclaredSettings.kafkaBrokers]
    do {
      kafka = try KafkaConfiguration(
        brokers: brokers, propertiesFile: settings[DeclaredSettings.kafkaConfigFile])
    } catch let error as KafkaError {
      throw ConfigurationError("METER_KAFKA_CONFIG_FILE: \(error.detail)")
    }
    databaseURL = try settings[DeclaredSettings.databaseURL]
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    rules.maxQuantity = try settings.maxQuantity()
    rules.maxEventAgeMilliseconds = try settings.maxEventAgeMilliseconds()
    dedupeWindowOffsets = try settings[DeclaredSettings.dedupeWindow]
    flushIntervalMilliseconds = try settings[DeclaredSettings.flushInterval]
    catchUpFlushIntervalMilliseconds = try settings[DeclaredSettings.catchUpFlushInterval]
    maxBatchEntries = try settings[DeclaredSettings.maxBatchEntries]
    databasePatienceMilliseconds = try settings[DeclaredSettings.databasePatience]
  }

  /// The name of a part of this consumer in `/health/ready`.
  func healthName(_ part: String) -> String { isOneOfSeveral ? "\(part) of \(topic)" : part }
}
