import AnomalyDetection
import EventCodec
import LogConsumer
import ServiceRuntime
import UsageAggregation

/// What the detector is configured by; `--help` lists the variables.
struct DetectorSettings: Sendable {
  static let group = "anomaly-detector"

  var usage: ConsumerSettings
  var validations: ConsumerSettings
  var bursts = BurstTable.Settings()
  var domains = DomainWatch.Settings()
  /// States are stored so often at least; what was read since is read again by the next owner.
  var checkpointMilliseconds = 10_000
  /// Of what happened longer ago nobody is told: a group that is new reads the whole log.
  var alertMaxAgeMilliseconds = 86_400_000

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    usage = try ConsumerSettings(settings, group: Self.group, topic: "license.usage.v1")
    usage.isOneOfSeveral = true
    // The aggregator writes them down.
    usage.rules.keepsDeadLetters = false
    usage.rules.countsRates = true
    validations = try ConsumerSettings(
      settings, group: Self.group, topic: "license.validations.v1")
    validations.isOneOfSeveral = true
    validations.rules.reads = .validations
    bursts.maximumLicenses = try settings.integer(
      "METER_DETECTOR_LICENSES", default: bursts.maximumLicenses, in: 1_000...1_000_000)
    domains.allowance = try settings.integer(
      "METER_DOMAIN_ALLOWANCE", default: domains.allowance, in: 0...10_000)
    checkpointMilliseconds = try settings.milliseconds(
      "METER_CHECKPOINT_INTERVAL", default: checkpointMilliseconds, in: 100...600_000)
    alertMaxAgeMilliseconds = try settings.milliseconds(
      "METER_ALERT_MAX_AGE", default: alertMaxAgeMilliseconds, in: 60_000...(3_650 * 86_400_000))
  }
}
