import HTTPListening
import Licensing
import Metering
import NIOSSL
import PostgresStore
import ServiceRuntime
import StripeExport
import WebhookDelivery

/// The service's settings. `--help` lists the variables.
struct APISettings: Sendable {
  static let adminBind = "127.0.0.1:9104"

  var databaseURL: String
  var bind: BindAddress
  var adminBind: BindAddress
  /// Nil if Kafka is not configured. Requests that read the log are then answered with 503.
  var kafkaBrokers: String?
  var kafkaConfigFile: String?
  /// Opens and seals the secrets of webhook endpoints. If it is nil, requests that need it are
  /// answered with 503.
  var box: SecretBox?
  /// The keys that sign statements and license tokens. Without them, statements are unsigned.
  var keys: JSONWebKeySet?
  var closeGraceMilliseconds: Int
  /// It has no slash at its end.
  var publicURL: String?
  /// It is empty, or it begins with a slash and does not end with one.
  var basePath: String
  var portalFrameAncestors: String?
  /// Nil if nothing is exported.
  var stripe: StripeSettings?
  /// Finds out the client's address of a request.
  var clients: ClientAddress
  /// Nil for plain HTTP.
  var tls: NIOSSLContext?
  var requestMilliseconds: Int
  /// Nil stands for half of the connections that the limit of open files allows.
  var connectionsPerAddress: Int?
  var webhookPolicy: TargetAddressPolicy
  var allowsHTTPEndpoints: Bool
  var maxQuantity: Int64
  var maxEventAgeMilliseconds: Int64

  /// - Throws: `ConfigurationError` with one line that names the variable.
  init(_ settings: Settings) throws {
    databaseURL = try settings[DeclaredSettings.databaseURL]
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    bind = try settings[DeclaredSettings.httpBind(port: 8081)]
    adminBind = try settings[DeclaredSettings.adminBind(port: 9104)]
    kafkaBrokers = try settings[DeclaredSettings.optionalKafkaBrokers]
    kafkaConfigFile = try settings[DeclaredSettings.kafkaConfigFile]
    (box, webhookPolicy) = try Self.webhooks(settings)
    allowsHTTPEndpoints = try settings[DeclaredSettings.webhookAllowHTTP]
    if let json = try settings[DeclaredSettings.optionalSigningKey] {
      do {
        keys = try JSONWebKeySet(json: json.utf8)
      } catch {
        throw ConfigurationError("METER_SIGNING_KEY: \(error). Run: meterctl key generate")
      }
    }
    closeGraceMilliseconds = try settings[DeclaredSettings.closeGrace]
    publicURL = try settings.publicURL()
    basePath = try settings.basePath()
    portalFrameAncestors = try settings[DeclaredSettings.portalFrameAncestors]
    stripe = try StripeSettings(settings)
    clients = ClientAddress(trustedProxies: try settings.trustedProxies(), detail: .full)
    tls = try settings.listenerTLS()
    requestMilliseconds = try settings[DeclaredSettings.requestTimeout]
    connectionsPerAddress = try settings[DeclaredSettings.maxConnectionsPerAddress]
    maxQuantity = try settings.maxQuantity()
    maxEventAgeMilliseconds = try settings.maxEventAgeMilliseconds()
  }

  private static func webhooks(
    _ settings: Settings
  ) throws -> (SecretBox?, TargetAddressPolicy) {
    do {
      return (
        try settings[DeclaredSettings.optionalEncryptionKey].map { try SecretBox(base64Key: $0) },
        try TargetAddressPolicy(cidrs: settings[DeclaredSettings.webhookAllowCIDRs])
      )
    } catch let error as SecretBox.Invalid {
      throw ConfigurationError(error.description)
    } catch let error as TargetAddressPolicy.Invalid {
      throw ConfigurationError(error.description)
    }
  }
}
