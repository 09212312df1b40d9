import EventCodec
package import KafkaTransport
import Metering
import PostgresStore
package import ServiceRuntime
package import UsageAggregation

/// What a consumer of one topic is configured by; `--help` of its service lists the variables.
package struct ConsumerSettings: Sendable {
  package var kafka: KafkaConfiguration
  package var databaseURL: String
  package var group: String
  package var topic: String
  package var deadLetterTopic = "license.dead-letter.v1"
  package var rules = LogAccumulator.Settings()
  /// Where several topics are consumed in one process, problems are told by topic.
  package var isOneOfSeveral = false
  package var dedupeWindowOffsets = Limits.dedupeWindowOffsets
  /// An idle event waits this long for company.
  package var flushIntervalMilliseconds = 50
  /// While the log is behind: larger flushes write fewer rows.
  package var catchUpFlushIntervalMilliseconds = 4_000
  /// Groups and cells that make a flush due at once.
  package var maxBatchEntries = 1_000_000
  /// Failing flushes are tried again for so long; then the group is left until the database answers.
  package var databasePatienceMilliseconds = 60_000

  /// - Throws: `ConfigurationError`, one line that names the variable.
  package init(_ settings: Settings, group: String, topic: String) throws {
    self.group = group
    self.topic = topic
    let brokers = try settings.required("METER_KAFKA_BROKERS")
    do {
      kafka = try KafkaConfiguration(
        brokers: brokers, propertiesFile: settings.optionalString("METER_KAFKA_CONFIG_FILE"))
    } catch let error as KafkaError {
      throw ConfigurationError("METER_KAFKA_CONFIG_FILE: \(error.detail)")
    }
    databaseURL = try settings.required("METER_DATABASE_URL")
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    rules.maxQuantity = try settings.maxQuantity()
    rules.maxEventAgeMilliseconds = try settings.maxEventAgeMilliseconds()
    dedupeWindowOffsets = try settings.integer(
      "METER_DEDUPE_WINDOW", default: dedupeWindowOffsets, in: 1_024...16_777_216)
    flushIntervalMilliseconds = try settings.milliseconds(
      "METER_FLUSH_INTERVAL", default: flushIntervalMilliseconds, in: 1...10_000)
    catchUpFlushIntervalMilliseconds = try settings.milliseconds(
      "METER_CATCH_UP_FLUSH_INTERVAL", default: catchUpFlushIntervalMilliseconds, in: 1...60_000)
    maxBatchEntries = try settings.integer(
      "METER_MAX_BATCH_ENTRIES", default: maxBatchEntries, in: 1...2_000_000)
    databasePatienceMilliseconds = try settings.milliseconds(
      "METER_DATABASE_PATIENCE", default: databasePatienceMilliseconds, in: 100...240_000)
  }

  /// How `/health/ready` names a part of this consumer.
  func healthName(_ part: String) -> String { isOneOfSeveral ? "\(part) of \(topic)" : part }
}
