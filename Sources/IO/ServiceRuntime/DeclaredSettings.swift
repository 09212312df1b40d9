import Logging
import Metering

/// Every setting of every program. `KnownVariables` refuses what is not here, and
/// `SettingsPageTests` keeps docs/configuration.md equal to it.
package enum DeclaredSettings {
  // MARK: Connections

  package static let databaseURL = Setting.required(
    "METER_DATABASE_URL", values: "a libpq URI",
    "The PostgreSQL database, such as postgresql://user@host/metering.")
  package static let kafkaBrokers = Setting.required(
    "METER_KAFKA_BROKERS", values: "host:port,…", "The Kafka brokers to begin with.",
    check: checkBrokers)
  package static let kafkaConfigFile = Setting<String?>.optional(
    "METER_KAFKA_CONFIG_FILE", values: "a path",
    "A properties file of librdkafka settings (TLS, SASL, tuning). It is applied last. A line "
      + "`topic.prefix=…` is ours: it stands before the names of topics and groups at the brokers.")

  /// librdkafka would take any text and look for such a host for ever.
  @Sendable private static func checkBrokers(_ text: String) throws(ConfigurationError) {
    let isList = text.split(separator: ",", omittingEmptySubsequences: false).allSatisfy { part in
      var broker = part.drop { $0 == " " }
      // librdkafka takes `SASL_SSL://host:port` too.
      if let scheme = broker.firstRange(of: "://") { broker = broker[scheme.upperBound...] }
      while broker.last == " " { broker.removeLast() }
      guard broker.first != ":", let address = BindAddress(parsing: String(broker)) else {
        return false
      }
      return address.port > 0
    }
    guard isList else {
      throw ConfigurationError(
        "METER_KAFKA_BROKERS must be host:port,… such as kafka-1:9092,kafka-2:9092")
    }
  }

  // MARK: Telling

  static let logLevel = Setting.choice(
    "METER_LOG_LEVEL", default: Logger.Level.info, "The least severe messages that are logged.")
  static let logFormat = Setting.choice(
    "METER_LOG_FORMAT", default: LogFormat.text, "How log lines are written.")

  /// The default leaves room for four statements that each take their 60 s, and 10 s more.
  package static let threadPatience = Setting.duration(
    "METER_THREAD_PATIENCE", default: 300_000, in: 1_000...3_600_000,
    "How long a thread may stand still before /health/live and /health/ready fail and name it. "
      + "Merges get three times as long.")
  package static let otlpEndpoint = Setting<String?>.optional(
    "METER_OTLP_ENDPOINT", values: "an http or https URL",
    "The OpenTelemetry collector that spans of sampled traces are sent to, by OTLP over HTTP.")
  package static let otlpHeaders = Setting<String?>.optional(
    "METER_OTLP_HEADERS", values: "name=value,…",
    "Headers of the requests to the collector, such as a token.")

  package static func adminBind(port: Int) -> Setting<BindAddress> {
    .address("METER_ADMIN_BIND", default: "127.0.0.1:\(port)", "Where health and metrics listen.")
  }

  package static func httpBind(port: Int) -> Setting<BindAddress> {
    .address("METER_HTTP_BIND", default: "127.0.0.1:\(port)", "Where the API listens.")
  }

  // MARK: Counting

  package static let maxQuantity = Setting.integer(
    "METER_MAX_QUANTITY", default: Int(Limits.quantity), in: 1...Int(Limits.largestQuantity),
    "The largest quantity of one event. It must be the same in all programs.")
  package static let maxEventAge = Setting.duration(
    "METER_MAX_EVENT_AGE", default: Int(Limits.eventAgeMilliseconds),
    in: 0...Int(Limits.largestEventAgeMilliseconds),
    "Events that are older than their record by more are dead letters. It must be the same in all "
      + "programs.")
  package static let dedupeWindow = Setting.integer(
    "METER_DEDUPE_WINDOW", default: Int(Limits.dedupeWindowOffsets), in: 1_024...16_777_216,
    "The offsets of a partition among which an id counts once.")
  package static let flushInterval = Setting.duration(
    "METER_FLUSH_INTERVAL", default: 50, in: 1...10_000,
    "How long an event waits for company before it is stored.")
  package static let catchUpFlushInterval = Setting.duration(
    "METER_CATCH_UP_FLUSH_INTERVAL", default: 4_000, in: 1...60_000,
    "The same while the consumer is far behind, because larger flushes write fewer rows.")
  package static let maxBatchEntries = Setting.integer(
    "METER_MAX_BATCH_ENTRIES", default: 1_000_000, in: 1...2_000_000,
    "A flush is due when it has this many license-hours, license-minutes and values.")
  package static let databasePatience = Setting.duration(
    "METER_DATABASE_PATIENCE", default: 60_000, in: 100...240_000,
    "How long failing flushes are tried again before the group is left.")
  package static let mergeInterval = Setting.duration(
    "METER_MERGE_INTERVAL", default: 5_000, in: 10...600_000,
    "The time between merges of appended rows.")
  package static let maxPendingRows = Setting.integer(
    "METER_MAX_PENDING_ROWS", default: 1_000_000, in: 1_000...10_000_000,
    "Flushes wait while more rows wait to be merged, because readers pay for each of them.")

  // MARK: Detecting

  package static let detectorLicenses = Setting.integer(
    "METER_DETECTOR_LICENSES", default: 65_536, in: 1_000...1_000_000,
    "The licenses of each partition whose bursts are followed.")
  package static let domainAllowance = Setting.integer(
    "METER_DOMAIN_ALLOWANCE", default: 5, in: 0...10_000,
    "How many foreign domains of a license in an hour are no alert yet.")
  package static let checkpointInterval = Setting.duration(
    "METER_CHECKPOINT_INTERVAL", default: 10_000, in: 100...600_000,
    "The time between stored states of the detector.")
  package static let alertMaxAge = Setting.duration(
    "METER_ALERT_MAX_AGE", default: 86_400_000, in: 60_000...(3_650 * 86_400_000),
    "Findings that are older raise no alert.")

  // MARK: Validating

  package static let signingKey = Setting.required(
    "METER_SIGNING_KEY", values: "a JWK set",
    "The keys that sign. meterctl key generate makes them, and meterctl key export gives each "
      + "program what it needs.")
  package static let spoolDirectory = Setting.required(
    "METER_SPOOL_DIR", values: "a directory",
    "Where events wait for Kafka. Each process needs its own.")
  package static let spoolMaxBytes = Setting.integer(
    "METER_SPOOL_MAX_BYTES", default: 1 << 30, in: 1 << 20...1 << 44,
    "The largest size of the spool in bytes. Validation events take at most half of it.")
  package static let spoolSync = Setting.oneOf(
    "METER_SPOOL_SYNC", default: "none", ["none", "interval"],
    "Whether the spool survives the loss of power (interval) or of the process only (none).")
  package static let instance = Setting.text(
    "METER_INSTANCE", default: "validation", values: "letters, digits and . _ -",
    "How this process is named in its events.")
  package static let requireAPIKey = Setting.boolean(
    "METER_REQUIRE_API_KEY", default: false,
    "Whether validations need a token with the scope licenses:validate or usage:write.")
  package static let rateLimit = rate(
    "METER_RATE_LIMIT", 10_000, 20_000, "Requests per second with one token.")
  package static let anonymousRateLimit = rate(
    "METER_ANONYMOUS_RATE_LIMIT", 1_000, 5_000,
    "Requests per second for one license from one address, without a token.")
  package static let addressRateLimit = rate(
    "METER_ADDRESS_RATE_LIMIT", 20_000, 100_000,
    "Requests per second from one address, without a token.")
  package static let unknownRateLimit = rate(
    "METER_UNKNOWN_RATE_LIMIT", 200, 2_000,
    "Requests per second from one address for licenses that do not exist.")
  package static let maxConnectionsPerAddress = Setting.optionalInteger(
    "METER_MAX_CONNECTIONS_PER_ADDRESS", in: 1...1_048_576,
    "Connections that one address (IPv6: a /64) may have open. The default is half of all.")
  package static let maxDelayedRequests = Setting.integer(
    "METER_MAX_DELAYED_REQUESTS", default: 10_000, in: 0...1_000_000,
    "Requests over a rate limit that wait at a time. More are answered with 429.")
  package static let trustedProxies = Setting.text(
    "METER_TRUSTED_PROXIES", default: "", values: "addresses and ranges, separated by commas",
    "The proxies whose X-Forwarded-For is believed.")
  package static let clientIP = Setting.oneOf(
    "METER_CLIENT_IP", default: "truncated", ["full", "truncated", "off"],
    "How much of a client's address goes into events.")
  package static let licenseCache = Setting.integer(
    "METER_LICENSE_CACHE", default: 100_000, in: 1_000...10_000_000,
    "The licenses and tokens that are kept in memory.")
  package static let requestTimeout = Setting.duration(
    "METER_REQUEST_TIMEOUT", default: 15_000, in: 100...3_600_000,
    "How long a request may take to arrive.")
  package static let tlsCertificate = Setting<String?>.optional(
    "METER_TLS_CERT", values: "PEM, or a path",
    "The certificate chain. With it, the service uses HTTPS.")
  package static let tlsKey = Setting<String?>.optional(
    "METER_TLS_KEY", values: "PEM, or a path", "The key of METER_TLS_CERT.")

  // MARK: Webhooks

  package static let encryptionKey = Setting.required(
    "METER_ENCRYPTION_KEY", values: "32 bytes in base64",
    "The key under which the secrets of endpoints are stored.")
  package static let webhookAllowCIDRs = Setting.text(
    "METER_WEBHOOK_ALLOW_CIDRS", default: "", values: "ranges, separated by commas",
    "Private ranges to which webhooks may be sent.")
  package static let webhookAllowHTTP = Setting.boolean(
    "METER_WEBHOOK_ALLOW_HTTP", default: false,
    "Whether webhooks may go to plain http addresses; for tests.")
  package static let webhookCAFile = Setting<String?>.optional(
    "METER_WEBHOOK_CA_FILE", values: "a path",
    "PEM certificates that are trusted beside the system's.")
  package static let webhookTimeout = Setting.duration(
    "METER_WEBHOOK_TIMEOUT", default: 15_000, in: 100...60_000,
    "How long one attempt may take, its answer included.")
  package static let webhookConcurrency = Setting.integer(
    "METER_WEBHOOK_CONCURRENCY", default: 512, in: 1...8_192,
    "Requests under way at a time. Twice as many slow ones may be under way beside them.")
  package static let webhookEndpointConcurrency = Setting.integer(
    "METER_WEBHOOK_ENDPOINT_CONCURRENCY", default: 4, in: 1...256,
    "Requests to one endpoint at a time, by each dispatcher.")
  package static let webhookLease = Setting.duration(
    "METER_WEBHOOK_LEASE", default: 60_000, in: 1_000...3_600_000,
    "After this time the work of a dispatcher that died is taken by another one.")
  package static let webhookPollInterval = Setting.duration(
    "METER_WEBHOOK_POLL_INTERVAL", default: 1_000, in: 10...60_000,
    "The time between looks for deliveries where no notification wakes the dispatcher.")
  package static let webhookRetention = Setting.duration(
    "METER_WEBHOOK_RETENTION", default: 90 * 86_400_000,
    in: 86_400_000...(3_650 * 86_400_000), "How long deliveries are kept after their end.")
  package static let expirySweepInterval = Setting.duration(
    "METER_EXPIRY_SWEEP_INTERVAL", default: 60_000, in: 100...86_400_000,
    "The time between looks for licenses that expire.")

  // MARK: Billing

  package static let optionalKafkaBrokers = Setting<String?>.optional(
    kafkaBrokers.name, values: kafkaBrokers.declaration.values,
    "The Kafka brokers. Without them, the events behind a number cannot be shown.",
    check: checkBrokers)
  package static let optionalSigningKey = Setting<String?>.optional(
    signingKey.name, values: signingKey.declaration.values,
    "The keys that sign statements and license tokens. Without them, statements are unsigned.")
  package static let optionalEncryptionKey = Setting<String?>.optional(
    encryptionKey.name, values: encryptionKey.declaration.values,
    "The key under which the secrets of endpoints are stored. Without it, endpoints cannot be "
      + "added.")
  package static let closeGrace = Setting.duration(
    "METER_CLOSE_GRACE", default: 86_400_000, in: 0...(90 * 86_400_000),
    "How long after its end a period must wait before it can be closed. metering-api and meterctl "
      + "must have the same value.")
  package static let publicURL = Setting<String?>.optional(
    "METER_PUBLIC_URL", values: "https://…", "The address with which links to pages begin.")
  package static let basePath = Setting.text(
    "METER_BASE_PATH", default: "", values: "a path such as /billing",
    "The path under which a proxy serves the API and the pages.")
  package static let portalFrameAncestors = Setting<String?>.optional(
    "METER_PORTAL_FRAME_ANCESTORS", values: "sources of a Content-Security-Policy",
    "The pages that may show the customers' portal in a frame.")
  package static let stripeAPIKey = Setting<String?>.optional(
    "METER_STRIPE_API_KEY", values: "a secret key", "The key of the Stripe export.")
  package static let stripeAPIBase = Setting.text(
    "METER_STRIPE_API_BASE", default: "https://api.stripe.com", values: "an address",
    "Another server in Stripe's place, for tests.")
  package static let stripeMeters = Setting.text(
    "METER_STRIPE_METERS", default: "", values: "meter=event_name,…",
    "The event name of Stripe for each meter that is exported.")

  /// A rate with its burst.
  package struct RateSettings: Sendable {
    package let perSecond: Setting<Int>
    package let burst: Setting<Int>
  }

  private static func rate(
    _ name: String, _ perSecond: Int, _ burst: Int, _ help: String
  ) -> RateSettings {
    RateSettings(
      perSecond: .integer(name, default: perSecond, in: 1...1_000_000, help),
      burst: .integer(
        name + "_BURST", default: burst, in: 1...10_000_000,
        "How many such requests may come together."))
  }
}
