import AnomalyDetection
import EventCodec
import LogConsumer
import Metering
import ServiceRuntime
import UsageAggregation

/// The detector's settings. `--help` lists the variables.
struct DetectorSettings: Sendable {
  static let group = ConsumerGroup.detector

  var usage: ConsumerSettings
  var validations: ConsumerSettings
  var bursts = BurstTable.Settings()
  var domains = DomainWatch.Settings()
  /// The longest time between two checkpoints. Whatever was read since the last one is read again
  /// by the next owner.
  var checkpointMilliseconds: Int
  /// Findings that are older than this raise no alert. A new group reads the whole log and would
  /// otherwise send alerts for all of it.
  var alertMaxAgeMilliseconds: Int

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    usage = try ConsumerSettings(settings, group: Self.group, topic: TopicName.usage)
    usage.isOneOfSeveral = true
    // The aggregator stores them.
    usage.rules.keepsDeadLetters = false
    usage.rules.countsRates = true
    validations = try ConsumerSettings(
      settings, group: Self.group, topic: TopicName.validations)
    validations.isOneOfSeveral = true
    validations.rules.reads = .validations
    bursts.maximumLicenses = try settings[DeclaredSettings.detectorLicenses]
    domains.allowance = try settings[DeclaredSettings.domainAllowance]
    checkpointMilliseconds = try settings[DeclaredSettings.checkpointInterval]
    alertMaxAgeMilliseconds = try settings[DeclaredSettings.alertMaxAge]
  }
}
