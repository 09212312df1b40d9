import AnomalyDetection
import EventCodec
import LogConsumer
import Metering
import ServiceRuntime
import UsageAggregation

/// What the detector is configured by; `--help` lists the variables.
struct DetectorSettings: Sendable {
  static let group = ConsumerGroup.detector

  var usage: ConsumerSettings
  var validations: ConsumerSettings
  var bursts = BurstTable.Settings()
  var domains = DomainWatch.Settings()
  /// States are stored so often at least; what was read since is read again by the next owner.
  var checkpointMilliseconds: Int
  /// Of what happened longer ago nobody is told: a group that is new reads the whole log.
  var alertMaxAgeMilliseconds: Int

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    usage = try ConsumerSettings(settings, group: Self.group, topic: TopicName.usage)
    usage.isOneOfSeveral = true
    // The aggregator writes them down.
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
