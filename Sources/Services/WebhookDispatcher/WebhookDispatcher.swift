import ArgumentParser
import Logging
import ServiceRuntime
import WebhookDelivery

@main
struct WebhookDispatcher: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "webhook-dispatcher",
    abstract: "Delivers alerts to webhook endpoints, signed, with retries.",
    discussion: """
      Configured by environment; every variable may be given as NAME_FILE, a file that holds the value.

        METER_DATABASE_URL                  libpq URI                                    required
        METER_ENCRYPTION_KEY                32 bytes, base64: opens endpoints' secrets   required
        METER_ADMIN_BIND                    health and metrics                           127.0.0.1:9103
        METER_LOG_LEVEL                     trace … critical                             info
        METER_LOG_FORMAT                    text or json                                 text
        METER_PUBLIC_URL                    of the pages: webhooks link to alerts there  none
        METER_BASE_PATH                     the pages' path prefix                       none
        METER_WEBHOOK_ALLOW_CIDRS           private ranges that may be sent to           none
        METER_WEBHOOK_ALLOW_HTTP            plain http, for tests                        false
        METER_WEBHOOK_CA_FILE               PEM certificates to trust beside the system's none
        METER_WEBHOOK_TIMEOUT               of one attempt, answer included              15s
        METER_WEBHOOK_CONCURRENCY           requests at a time; twice as many slow ones  512
        METER_WEBHOOK_ENDPOINT_CONCURRENCY  of one endpoint, a dispatcher                4
        METER_WEBHOOK_LEASE                 a dead dispatcher's work is taken after it   60s
        METER_WEBHOOK_POLL_INTERVAL         where no notification wakes it               1s
        METER_WEBHOOK_RETENTION             deliveries are kept so long after their end  90d
        METER_EXPIRY_SWEEP_INTERVAL         between looks for licenses that expire       1m

      Any number of dispatchers share the work.

      Exit: 0 after SIGTERM, 78 for a wrong setting, 1 otherwise.

      Example:
        METER_DATABASE_URL=postgresql:///metering METER_ENCRYPTION_KEY_FILE=key webhook-dispatcher
      """,
    version: BuildInfo.line("webhook-dispatcher"))

  private static let adminBind = "127.0.0.1:9103"

  @Option(help: ArgumentHelp(HealthCheck.help))
  var healthcheck: HealthCheck?

  func run() async {
    if let healthcheck { healthcheck.run(service: "webhook-dispatcher", bind: Self.adminBind) }
    await ServiceMain.run(service: "webhook-dispatcher") { settings in
      var dispatcher = try DispatcherSettings(settings)
      let budget = DispatcherDescriptors(.current())
      dispatcher.limits = budget.fitted(dispatcher.limits)
      dispatcher.sender.maximumIdleConnections = budget.idleConnections
      let bind = try settings.address("METER_ADMIN_BIND", default: Self.adminBind)
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let health = HealthState()
      let logger = Logger(label: "webhook-dispatcher")
      return ServiceMain.Composition(
        services: [
          Dispatcher(
            settings: dispatcher,
            resolver: SystemResolver(limits: budget.fitted(LookupSchedule.Limits())),
            health: health,
            metrics: DispatcherMetrics(registry), logger: logger)
        ],
        admin: AdminServer(bind: bind, health: health, metrics: registry, logger: logger),
        logger: logger)
    }
  }
}

extension HealthCheck: ExpressibleByArgument {}
