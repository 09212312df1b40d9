import ArgumentParser
import Logging
import ServiceRuntime

@main
struct MeteringAPI: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "metering-api",
    abstract: "Serves usage, periods, statements and pages to the billing team and to customers.",
    discussion: """
      It is configured by environment. Every variable may be given as NAME_FILE, a file that holds
      the value.

        METER_DATABASE_URL           libpq URI                                    required
        METER_HTTP_BIND              the API and the pages                        127.0.0.1:8081
        METER_ADMIN_BIND             health and metrics                           127.0.0.1:9104
        METER_KAFKA_BROKERS          host:port,…: the events behind a number      none
        METER_KAFKA_CONFIG_FILE      properties file of librdkafka settings       none
        METER_ENCRYPTION_KEY         32 bytes, base64: webhook secrets            none
        METER_SIGNING_KEY            JWK set: signs statements and license tokens none
        METER_CLOSE_GRACE            a period may be closed so long after its end 24h
        METER_PUBLIC_URL             the address that links begin with            none
        METER_BASE_PATH              the path prefix behind a proxy: /billing     none
        METER_PORTAL_FRAME_ANCESTORS pages that may show the portal in a frame    none
        METER_STRIPE_API_KEY         of the Stripe export                         none
        METER_STRIPE_API_BASE        another server in Stripe's place             https://api.stripe.com
        METER_STRIPE_METERS          meter=event_name,…                           none
        METER_TRUSTED_PROXIES        whose X-Forwarded-For is believed            none
        METER_REQUEST_TIMEOUT        for a request to come in                     15s
        METER_MAX_CONNECTIONS_PER_ADDRESS  open at a time; IPv6: of a /64         half of all
        METER_WEBHOOK_ALLOW_CIDRS    private ranges that endpoints may have       none
        METER_WEBHOOK_ALLOW_HTTP     plain http for endpoints, for tests          false
        METER_MAX_QUANTITY           the aggregator's: the events behind a number 1000000000
        METER_MAX_EVENT_AGE          the aggregator's: the events behind a number 35d
        METER_LOG_LEVEL              trace … critical                             info
        METER_LOG_FORMAT             text or json                                 text

      Exit: 0 after SIGTERM, 78 for a wrong setting, 1 otherwise.

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
      let health = HealthState(logger: logger)
      let database = DatabasePool(
        url: settings.databaseURL, health: health, metrics: registry)
      let watch = LogWatch(settings: settings, logger: logger)
      let context = APIContext(
        settings: settings, database: database, watch: watch, logger: logger)
      let api = API(
        routes: Endpoints.all(context), context: context, metrics: APIMetrics(registry))
      return ServiceMain.Composition(
        services: [
          database, Upkeep(database: database, logger: logger), watch,
          MeteringServer(settings: settings, api: api, metrics: registry, logger: logger),
        ],
        admin: AdminServer(
          bind: settings.adminBind, health: health, metrics: registry, logger: logger),
        logger: logger)
    }
  }
}

extension HealthCheck: ExpressibleByArgument {}
