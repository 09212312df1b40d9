import ArgumentParser
import DomainNames
import EventPublisher
import Licensing
import Logging
import ServiceRuntime

@main
struct ValidationService: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validation-service",
    abstract: "Answers whether a license holds for a domain, and publishes what was used.",
    discussion: """
      Configured by environment; every variable may be given as NAME_FILE, a file that holds the value.

        METER_DATABASE_URL          libpq URI                                        required
        METER_KAFKA_BROKERS         host:port,…                                      required
        METER_SIGNING_KEY           JWK set, of meterctl key export                  required
        METER_SPOOL_DIR             where events wait for Kafka; one a process       required
        METER_SPOOL_MAX_BYTES       of the disk; validations take half at most       1073741824
        METER_SPOOL_SYNC            none, interval: survive the loss of power        none
        METER_KAFKA_CONFIG_FILE     properties file of librdkafka settings           none
        METER_HTTP_BIND             the API                                          127.0.0.1:8080
        METER_ADMIN_BIND            health and metrics                               127.0.0.1:9100
        METER_TLS_CERT              PEM or its path: serve https                     none
        METER_TLS_KEY               PEM or its path                                  none
        METER_REQUEST_TIMEOUT       for a request to come in                         15s
        METER_INSTANCE              names this process in events: letters, . _ -     validation
        METER_REQUIRE_API_KEY       true: validations need a token with the scope    false
                                    licenses:validate or usage:write
        METER_RATE_LIMIT            requests a second of a token                     10000
        METER_RATE_LIMIT_BURST      so many at once                                  20000
        METER_ANONYMOUS_RATE_LIMIT  of a license and an address, without a token     1000
        METER_ANONYMOUS_RATE_LIMIT_BURST                                             5000
        METER_ADDRESS_RATE_LIMIT    requests a second of an address without a token  20000
        METER_ADDRESS_RATE_LIMIT_BURST                                               100000
        METER_UNKNOWN_RATE_LIMIT    of them, for licenses that do not exist          200
        METER_UNKNOWN_RATE_LIMIT_BURST                                               2000
        METER_MAX_CONNECTIONS_PER_ADDRESS  open at a time; IPv6: of a /64            half of all
        METER_MAX_DELAYED_REQUESTS  that wait at a time; more are answered 429       10000
        METER_TRUSTED_PROXIES       whose X-Forwarded-For is believed                none
        METER_CLIENT_IP             in events: full, truncated, off                  truncated
        METER_MAX_QUANTITY          the aggregator's: of one event of POST /v1/events  1000000000
        METER_MAX_EVENT_AGE         the aggregator's: older events are rejected      35d
        METER_LICENSE_CACHE         licenses and tokens kept in memory               100000
        METER_LOG_LEVEL             trace … critical                                 info
        METER_LOG_FORMAT            text or json                                     text

      Exit: 0 after SIGTERM, 78 for a wrong setting, 1 otherwise.

      Example:
        meterctl key generate --out keys.json
        METER_DATABASE_URL=postgresql:///metering METER_KAFKA_BROKERS=localhost:9092 \\
          METER_SIGNING_KEY_FILE=keys.json METER_SPOOL_DIR=spool validation-service
      """,
    version: BuildInfo.line("validation-service"))

  @Option(help: ArgumentHelp(HealthCheck.help))
  var healthcheck: HealthCheck?

  func run() async {
    if let healthcheck {
      healthcheck.run(service: "validation-service", bind: ServiceSettings.adminBind)
    }
    await ServiceMain.run(service: "validation-service") { environment in
      let settings = try ServiceSettings(environment)
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "validation-service")
      let health = HealthState(logger: logger)
      guard let rules = PublicSuffixList.shared else {
        throw ConfigurationError("libpsl has no Public Suffix List: apt-get install publicsuffix")
      }
      let publisher: EventPublisher
      do {
        publisher = try EventPublisher(configuration: settings.publisher, logger: logger) {
          // The publisher logs it.
          health.degraded("kafka", problem: $0, logs: false)
        }
      } catch let error as SpoolError {
        throw ConfigurationError(error.description)
      }
      for key in settings.keys.skipped {
        logger.warning("a key of METER_SIGNING_KEY is left out", metadata: ["key": "\(key)"])
      }
      ValidationMetrics.register(
        publisher, spoolMaximumBytes: settings.publisher.maximumBytes, on: registry)
      if settings.keys.signingKey(for: .license) != nil {
        logger.warning(
          "METER_SIGNING_KEY holds a private key for licenses, which this service does not need; meterctl key export --for validation-service leaves it out"
        )
      }
      let directory = Directory(
        databaseURL: settings.databaseURL, capacity: settings.cacheEntries, rules: rules,
        health: health, logger: logger)
      let judge = Judge(
        directory: directory, verifier: LicenseVerifier(keys: settings.keys), rules: rules,
        capacity: settings.cacheEntries)
      let api = ValidationAPI(
        settings: settings.api, directory: directory, judge: judge, signer: settings.verdictSigner,
        publisher: publisher, keySet: settings.keys.publicJSON,
        metrics: ValidationMetrics(registry))
      return ServiceMain.Composition(
        services: [
          publisher, directory,
          ValidationServer(
            bind: settings.bind, api: api, tls: settings.tls,
            requestMilliseconds: settings.requestMilliseconds,
            connectionsPerAddress: settings.connectionsPerAddress, metrics: registry,
            logger: logger),
        ],
        admin: AdminServer(
          bind: settings.adminBind, health: health, metrics: registry, logger: logger),
        logger: logger)
    }
  }
}

extension HealthCheck: ExpressibleByArgument {}
