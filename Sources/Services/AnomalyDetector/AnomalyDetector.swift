import ArgumentParser
import DomainNames
import LogConsumer
import Logging
import ServiceRuntime

@main
struct AnomalyDetector: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "anomaly-detector",
    abstract:
      "Finds bursts of calls, keys on foreign domains and unusual totals, and raises alerts.",
    discussion: """
      \(ProgramSettings.anomalyDetector.help)

      Exit status: 0 after SIGTERM, 78 if a setting is invalid, 1 otherwise.

      Example:
        METER_KAFKA_BROKERS=localhost:9092 METER_DATABASE_URL=postgresql:///metering anomaly-detector
      """,
    version: BuildInfo.line("anomaly-detector"))

  private static let adminBind = "127.0.0.1:9102"

  @Option(help: ArgumentHelp(HealthCheck.help))
  var healthcheck: HealthCheck?

  func run() async {
    if let healthcheck { healthcheck.run(service: "anomaly-detector", bind: Self.adminBind) }
    await ServiceMain.run(service: "anomaly-detector") { settings in
      let detector = try DetectorSettings(settings)
      let bind = try settings[DeclaredSettings.adminBind(port: 9102)]
      guard let rules = PublicSuffixList.shared else {
        throw ConfigurationError(
          "libpsl has no Public Suffix List. Install it (Debian: apt-get install publicsuffix)")
      }
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "anomaly-detector")
      let health = HealthState(
        logger: logger,
        threadPatienceMilliseconds: try settings[DeclaredSettings.threadPatience])
      let metrics = DetectorMetrics(registry)
      return ServiceMain.Composition(
        services: [
          Self.consumer(
            detector.usage, BurstFinder(settings: detector.bursts), detector, rules, health,
            registry, metrics, watchesTotals: true),
          Self.consumer(
            detector.validations, DomainFinder(settings: detector.domains, rules: rules), detector,
            rules, health, registry, metrics),
        ],
        admin: AdminServer(bind: bind, health: health, metrics: registry, logger: logger),
        logger: logger)
    }
  }

  private static func consumer<Finder: TopicFinder & Sendable>(
    _ consumer: ConsumerSettings, _ finder: Finder, _ detector: DetectorSettings,
    _ rules: PublicSuffixList, _ health: HealthState, _ registry: MetricsRegistry,
    _ metrics: DetectorMetrics, watchesTotals: Bool = false
  ) -> LogConsumer<DetectorProcessor<Finder>> {
    var logger = Logger(label: "anomaly-detector")
    logger[metadataKey: "topic"] = "\(consumer.topic)"
    let budget = SharedAlertBudget()
    return LogConsumer(
      settings: consumer, health: health,
      metrics: ConsumerMetrics(
        registry, topic: consumer.topic, prefix: "meter_detector_", isOneOfSeveral: true),
      logger: logger,
      makeWriter: { [logger] in
        DetectorWriter(
          topic: consumer.topic, settings: detector, rules: rules, budget: budget,
          metrics: metrics, logger: logger)
      },
      makeProcessor: { [logger] in
        DetectorProcessor(
          finder, topic: consumer.topic, checkpointMilliseconds: detector.checkpointMilliseconds,
          metrics: metrics, logger: logger)
      },
      companions: { [logger] stop in
        guard watchesTotals else { return [] }
        return [
          UsageWatcher(
            settings: consumer, health: health, metrics: metrics, logger: logger, stop: stop
          ).start()
        ]
      })
  }
}

extension HealthCheck: ExpressibleByArgument {}
