import LogConsumer
import Metering
import ServiceRuntime

/// The settings of the aggregator. `--help` lists the variables.
struct AggregatorSettings: Sendable {
  var consumer: ConsumerSettings
  var mergeIntervalMilliseconds: Int
  /// Flushes wait while more rows than this wait to be merged. This bounds the cost of reading the
  /// views.
  var maxPendingRows: Int

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    consumer = try ConsumerSettings(
      settings, group: ConsumerGroup.aggregator, topic: TopicName.usage)
    mergeIntervalMilliseconds = try settings[DeclaredSettings.mergeInterval]
    maxPendingRows = try settings[DeclaredSettings.maxPendingRows]
  }
}
