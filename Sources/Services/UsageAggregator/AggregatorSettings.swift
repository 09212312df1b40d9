import LogConsumer
import Metering
import ServiceRuntime

/// What the aggregator is configured by; `--help` lists the variables.
struct AggregatorSettings: Sendable {
  var consumer: ConsumerSettings
  var mergeIntervalMilliseconds: Int
  /// Flushes wait while so many rows wait to be merged: it bounds what readers of the views pay.
  var maxPendingRows: Int

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    consumer = try ConsumerSettings(
      settings, group: ConsumerGroup.aggregator, topic: TopicName.usage)
    mergeIntervalMilliseconds = try settings[DeclaredSettings.mergeInterval]
    maxPendingRows = try settings[DeclaredSettings.maxPendingRows]
  }
}
