import ArgumentParser
import Logging
import ServiceRuntime

@main
struct MeteringAPI: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "metering-api",
    abstract: "Serves usage, periods, statements and pages to the billing team and to customers.",
    discussion: """
      \(ProgramSettings.meteringAPI.help)

      Exit status: 0 after SIGTERM, 78 if a setting is invalid, 1 otherwise.

      Example:
        meterctl token create --name billing --scope admin
        METER_DATABASE_URL=postgresql:///metering metering-api
        curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:8081/v1/usage?range=this_month'
      """,
    version: BuildInfo.line("metering-api"))

  @Option(help: ArgumentHelp(HealthCheck.help))
  var healthcheck: HealthCheck?

  func run() async {
    if let healthcheck { healthcheck.run(service: "metering-api", bind: APISettings.adminBind) }
    await ServiceMain.run(service: "metering-api") { environment in
      let settings = try APISettings(environment)
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "metering-api")
      let health = HealthState(
        logger: logger,
        threadPatienceMilliseconds: try environment[DeclaredSettings.threadPatience])
      let database = DatabasePool(
        url: settings.databaseURL, health: health, metrics: registry)
      let watch = LogWatch(settings: settings, health: health, logger: logger)
      let exports = settings.stripe.map {
        StripeExports($0, api: settings, logger: logger)
      }
      let context = APIContext(
        settings: settings, database: database, watch: watch, exports: exports, logger: logger)
      let api = API(
        routes: Endpoints.all(context), context: context, metrics: APIMetrics(registry))
      return ServiceMain.Composition(
        services: [
          database, Upkeep(database: database, logger: logger), watch,
          MeteringServer(settings: settings, api: api, metrics: registry, logger: logger),
        ] + (exports.map { [$0] } ?? []),
        admin: AdminServer(
          bind: settings.adminBind, health: health, metrics: registry, logger: logger),
        logger: logger)
    }
  }
}

extension HealthCheck: ExpressibleByArgument {}
