import ArgumentParser
import Logging
import ServiceRuntime
import TraceExport
import WebhookDelivery

@main
struct WebhookDispatcher: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "webhook-dispatcher",
    abstract: "Sends alerts to webhook endpoints as signed requests, with retries.",
    discussion: """
      \(ProgramSettings.webhookDispatcher.help)

      Any number of dispatchers share the work.

      Exit status: 0 after SIGTERM, 78 if a setting is invalid, 1 otherwise.

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
      dispatcher.client.maximumIdleConnections = budget.idleConnections
      let bind = try settings[DeclaredSettings.adminBind(port: 9103)]
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "webhook-dispatcher")
      let health = HealthState(
        threadPatienceMilliseconds: try settings[DeclaredSettings.threadPatience])
      let tracing = try SpanExport.begin(
        settings, service: "webhook-dispatcher", metrics: registry, logger: logger)
      return ServiceMain.Composition(
        services: tracing + [
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
