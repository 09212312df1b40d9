import ArgumentParser
import DomainNames
import EventPublisher
import Licensing
import Logging
import ServiceRuntime
import TraceExport

@main
struct ValidationService: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validation-service",
    abstract: "Says whether a license is valid for a domain, and publishes usage events.",
    discussion: """
      \(ProgramSettings.validationService.help)

      Exit status: 0 after SIGTERM, 78 if a setting is invalid, 1 otherwise.

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
      healthcheck.run(service: "validation-service", bind: ValidationSettings.adminBind)
    }
    await ServiceMain.run(service: "validation-service") { environment in
      let settings = try ValidationSettings(environment)
      let registry = MetricsRegistry()
      ProcessMetrics.register(on: registry)
      let logger = Logger(label: "validation-service")
      let tracing = try SpanExport.begin(
        environment, service: "validation-service", metrics: registry, logger: logger)
      let health = HealthState(
        logger: logger,
        threadPatienceMilliseconds: try environment[DeclaredSettings.threadPatience])
      guard let rules = PublicSuffixList.shared else {
        throw ConfigurationError(
          "libpsl has no Public Suffix List. Install it (Debian: apt-get install publicsuffix)")
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
        logger.warning("a key of METER_SIGNING_KEY is ignored", metadata: ["key": "\(key)"])
      }
      ValidationMetrics.register(
        publisher, spoolMaximumBytes: settings.publisher.maximumBytes, on: registry)
      if settings.keys.signingKey(for: .license) != nil {
        logger.warning(
          """
          METER_SIGNING_KEY holds a private key for licenses, which this service does not need; \
          leave it out with: meterctl key export --for validation-service
          """
        )
      }
      let directory = LicenseDirectory(
        databaseURL: settings.databaseURL, capacity: settings.cacheEntries, rules: rules,
        health: health, logger: logger)
      let evaluator = LicenseEvaluator(
        directory: directory, verifier: LicenseVerifier(keys: settings.keys), rules: rules,
        capacity: settings.cacheEntries)
      let api = ValidationAPI(
        settings: settings.api, directory: directory, evaluator: evaluator,
        signer: settings.verdictSigner,
        publisher: publisher, keySet: settings.keys.publicJSON,
        metrics: ValidationMetrics(registry))
      return ServiceMain.Composition(
        services: tracing + [
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
