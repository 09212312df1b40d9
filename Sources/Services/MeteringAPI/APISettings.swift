import Licensing
import Metering
import PostgresStore
import ServiceRuntime
import WebhookDelivery

/// What the service is configured by; `--help` lists the variables.
struct APISettings: Sendable {
  static let adminBind = "127.0.0.1:9104"

  var databaseURL: String
  var bind: BindAddress
  var adminBind: BindAddress
  /// Nil: what reads the log answers 503.
  var kafkaBrokers: String?
  var kafkaConfigFile: String?
  /// Opens and seals the secrets of webhook endpoints; nil: what needs it answers 503.
  var box: SecretBox?
  /// Signs statements and license tokens; nil: statements are unsigned.
  var keys: JSONWebKeySet?
  var closeGraceMilliseconds: Int
  /// Without a slash at its end.
  var publicURL: String?
  /// Empty, or with a slash in front and none at its end.
  var basePath: String
  var portalFrameAncestors: String?
  var stripeKey: String?
  var stripeBase: String
  var stripeMeters: String
  var trustedProxies: [AddressRange]
  var requestMilliseconds: Int
  /// Nil: half of all that the limit of open files allows.
  var connectionsPerAddress: Int?
  var webhookPolicy: TargetAddressPolicy
  var allowsHTTPEndpoints: Bool
  var maxQuantity: Int64
  var maxEventAgeMilliseconds: Int64

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    databaseURL = try settings.required("METER_DATABASE_URL")
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    bind = try settings.address("METER_HTTP_BIND", default: "127.0.0.1:8081")
    adminBind = try settings.address("METER_ADMIN_BIND", default: Self.adminBind)
    kafkaBrokers = try settings.optionalString("METER_KAFKA_BROKERS")
    kafkaConfigFile = try settings.optionalString("METER_KAFKA_CONFIG_FILE")
    (box, webhookPolicy) = try Self.webhooks(settings)
    allowsHTTPEndpoints = try settings.boolean("METER_WEBHOOK_ALLOW_HTTP", default: false)
    if let json = try settings.optionalString("METER_SIGNING_KEY") {
      do {
        keys = try JSONWebKeySet(json: json.utf8)
      } catch {
        throw ConfigurationError("METER_SIGNING_KEY: \(error); meterctl key generate makes a set")
      }
    }
    closeGraceMilliseconds = try settings.milliseconds(
      "METER_CLOSE_GRACE", default: 86_400_000, in: 0...(90 * 86_400_000))
    publicURL = try settings.publicURL()
    basePath = try settings.basePath()
    portalFrameAncestors = try settings.optionalString("METER_PORTAL_FRAME_ANCESTORS")
    stripeKey = try settings.optionalString("METER_STRIPE_API_KEY")
    stripeBase = try settings.string("METER_STRIPE_API_BASE", default: "https://api.stripe.com")
    stripeMeters = try settings.string("METER_STRIPE_METERS", default: "")
    trustedProxies = try settings.string("METER_TRUSTED_PROXIES", default: "")
      .split(separator: ",").map { text -> AddressRange in
        guard let range = AddressRange(text.filter { $0 != " " }) else {
          throw ConfigurationError(
            "METER_TRUSTED_PROXIES must be addresses or ranges: 10.0.0.0/8,fd00::/8")
        }
        return range
      }
    requestMilliseconds = try settings.milliseconds(
      "METER_REQUEST_TIMEOUT", default: 15_000, in: 100...3_600_000)
    if try settings.optionalString("METER_MAX_CONNECTIONS_PER_ADDRESS") != nil {
      connectionsPerAddress = try settings.integer(
        "METER_MAX_CONNECTIONS_PER_ADDRESS", default: 0, in: 1...1_048_576)
    }
    maxQuantity = try settings.maxQuantity()
    maxEventAgeMilliseconds = try settings.maxEventAgeMilliseconds()
  }

  private static func webhooks(
    _ settings: Settings
  ) throws -> (SecretBox?, TargetAddressPolicy) {
    do {
      return (
        try settings.optionalString("METER_ENCRYPTION_KEY").map { try SecretBox(base64Key: $0) },
        try TargetAddressPolicy(cidrs: settings.string("METER_WEBHOOK_ALLOW_CIDRS", default: ""))
      )
    } catch let error as SecretBox.Invalid {
      throw ConfigurationError(error.description)
    } catch let error as TargetAddressPolicy.Invalid {
      throw ConfigurationError(error.description)
    }
  }
}
