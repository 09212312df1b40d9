import ArgumentParser
import LogConsumer
import Logging
import ServiceRuntime

@main
struct UsageAggregator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "usage-aggregator",
    abstract: "Counts usage events from Kafka into PostgreSQL, each exactly once.",
    discussion: """
      \(ProgramSettings.usageAggregator.help)

      Exit status: 0 after SIGTERM, 78 if a setting is invalid, 1 otherwise.

      Example:
        METER_KAFKA_BROKERS=localhost:9092 METER_DATABASE_URL=postgresql:///metering usage-aggregator
      """,
    version: BuildInfo.line("usage-aggregator"))

  private static let adminBind = "127.0.0.1:9101"

  @Option(help: ArgumentHelp(HealthCheck.help))
  var healthcheck: HealthCheck?

  func run() async {
    if let healthcheck { healthcheck.run(service: "usage-aggregator", bind: Self.adminBind) }
    await ServiceMain.run(service: "usage-aggregator") { settings in
      let aggregator = try AggregatorSettings(settings)
      let bind = try settings[DeclaredSettings.adminBind(port: 9101)]
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "usage-aggregator")
      let health = HealthState(
        logger: logger,
        threadPatienceMilliseconds: try settings[DeclaredSettings.threadPatience])
      return ServiceMain.Composition(
        services: [Self.consumer(aggregator, health, registry, logger)],
        admin: AdminServer(bind: bind, health: health, metrics: registry, logger: logger),
        logger: logger)
    }
  }

  private static func consumer(
    _ settings: AggregatorSettings, _ health: HealthState, _ registry: MetricsRegistry,
    _ logger: Logger
  ) -> LogConsumer<UsageProcessor> {
    let metrics = AggregatorMetrics(registry)
    let backlog = MergeBacklog(gauge: metrics.pendingRows)
    let limits = LimitHints()
    return LogConsumer(
      settings: settings.consumer, health: health,
      metrics: ConsumerMetrics(registry, topic: settings.consumer.topic), logger: logger,
      makeWriter: {
        UsageWriter(backlog: backlog, limits: limits, maxPendingRows: settings.maxPendingRows)
      },
      makeProcessor: { UsageProcessor(backlog: backlog) },
      companions: { stop in
        [
          EarlyMerger(
            settings: settings, hints: limits, backlog: backlog, metrics: metrics, health: health,
            logger: logger, stop: stop
          ).start(),
          Merger(
            settings: settings, backlog: backlog, metrics: metrics, health: health, logger: logger,
            stop: stop
          ).start(),
          TotalsFolder(
            settings: settings, backlog: backlog, metrics: metrics, health: health, logger: logger,
            stop: stop
          ).start(),
          BillingWatch(
            settings: settings, metrics: metrics, logger: logger, stop: stop,
            pulse: health.heartbeat("billing watch", .helpful)
          ).start(),
        ]
      })
  }
}

extension HealthCheck: ExpressibleByArgument {}
