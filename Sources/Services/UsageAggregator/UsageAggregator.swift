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
      Configured by environment; every variable may be given as NAME_FILE, a file that holds the value.

        METER_KAFKA_BROKERS            host:port,…                                      required
        METER_KAFKA_CONFIG_FILE        properties file of librdkafka settings           none
        METER_DATABASE_URL             libpq URI                                        required
        METER_ADMIN_BIND               health and metrics                               127.0.0.1:9101
        METER_LOG_LEVEL                trace … critical                                 info
        METER_LOG_FORMAT               text or json                                     text
        METER_MAX_QUANTITY             largest quantity of one event                    1000000000
        METER_MAX_EVENT_AGE            older events are dead letters                    35d
        METER_DEDUPE_WINDOW            offsets of a partition, 1024 to 16777216         262144
        METER_FLUSH_INTERVAL           an idle event waits this long for company        50ms
        METER_CATCH_UP_FLUSH_INTERVAL  the same while the log is behind, at most        4s
        METER_MAX_BATCH_ENTRIES        license-hours, -minutes and values of a flush    1000000
        METER_MERGE_INTERVAL           between merges of appended rows                  2s
        METER_MAX_PENDING_ROWS         flushes wait while more rows wait to be merged   400000
        METER_DATABASE_PATIENCE        failing flushes before the group is left         60s

      Exit: 0 after SIGTERM, 78 for a wrong setting, 1 otherwise.

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
      let bind = try settings.address("METER_ADMIN_BIND", default: Self.adminBind)
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "usage-aggregator")
      let health = HealthState(logger: logger)
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
          LimitJudge(
            settings: settings, hints: limits, backlog: backlog, metrics: metrics, health: health,
            logger: logger, stop: stop
          ).start(),
          Merger(
            settings: settings, backlog: backlog, metrics: metrics, logger: logger, stop: stop
          ).start(),
          TotalsFolder(
            settings: settings, backlog: backlog, metrics: metrics, logger: logger, stop: stop
          ).start(),
          BillingWatch(
            settings: settings, metrics: metrics, logger: logger, stop: stop
          ).start(),
        ]
      })
  }
}

extension HealthCheck: ExpressibleByArgument {}
