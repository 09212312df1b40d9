import EventPublisher
import Foundation
import Licensing
import Metering
import NIOSSL
import PostgresStore
import ServiceRuntime

/// What the service is configured by; `--help` lists the variables.
struct ServiceSettings: Sendable {
  static let adminBind = "127.0.0.1:9100"

  var databaseURL: String
  var bind: BindAddress
  var adminBind: BindAddress
  var keys: JSONWebKeySet
  var verdictSigner: VerdictSigner
  var publisher: EventPublisher.Configuration
  var api = ValidationAPI.Settings()
  var cacheEntries: Int
  var tls: NIOSSLContext?
  var requestMilliseconds: Int
  /// Nil: half of all that the limit of open files allows.
  var connectionsPerAddress: Int?

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    databaseURL = try settings.required("METER_DATABASE_URL")
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    bind = try settings.address("METER_HTTP_BIND", default: "127.0.0.1:8080")
    adminBind = try settings.address("METER_ADMIN_BIND", default: Self.adminBind)
    do {
      keys = try JSONWebKeySet(json: settings.required("METER_SIGNING_KEY").utf8)
    } catch let error as JSONWebKey.Invalid {
      throw ConfigurationError("METER_SIGNING_KEY: \(error); meterctl key generate makes a set")
    }
    guard let signer = VerdictSigner(keys: keys) else {
      throw ConfigurationError(
        "METER_SIGNING_KEY has no private key for verdicts; meterctl key generate makes one")
    }
    verdictSigner = signer
    publisher = EventPublisher.Configuration(
      brokers: try settings.required("METER_KAFKA_BROKERS"),
      spoolDirectory: try settings.required("METER_SPOOL_DIR"))
    publisher.kafkaConfigFile = try settings.optionalString("METER_KAFKA_CONFIG_FILE")
    publisher.maximumBytes = try settings.integer(
      "METER_SPOOL_MAX_BYTES", default: 1 << 30, in: 1 << 20...1 << 44)
    publisher.sync = try settings.choice("METER_SPOOL_SYNC", default: .none)
    let instance = try settings.string("METER_INSTANCE", default: "validation")
    publisher.producerPrefix = instance
    api.source = "/validation/" + instance
    api.eventRules.maxQuantity = try settings.maxQuantity()
    api.eventRules.maxEventAgeMilliseconds = try settings.maxEventAgeMilliseconds()
    api.requiresKey = try settings.boolean("METER_REQUIRE_API_KEY", default: false)
    api.keyRate = try Self.rate(settings, "METER_RATE_LIMIT", 10_000, 20_000)
    api.anonymousRate = try Self.rate(settings, "METER_ANONYMOUS_RATE_LIMIT", 1_000, 5_000)
    api.addressRate = try Self.rate(settings, "METER_ADDRESS_RATE_LIMIT", 20_000, 100_000)
    api.unknownRate = try Self.rate(settings, "METER_UNKNOWN_RATE_LIMIT", 200, 2_000)
    if try settings.optionalString("METER_MAX_CONNECTIONS_PER_ADDRESS") != nil {
      connectionsPerAddress = try settings.integer(
        "METER_MAX_CONNECTIONS_PER_ADDRESS", default: 0, in: 1...1_048_576)
    }
    api.maximumDelayed = try settings.integer(
      "METER_MAX_DELAYED_REQUESTS", default: 10_000, in: 0...1_000_000)
    let proxies = try settings.string("METER_TRUSTED_PROXIES", default: "")
      .split(separator: ",").map { text -> AddressRange in
        guard let range = AddressRange(text.filter { $0 != " " }) else {
          throw ConfigurationError(
            "METER_TRUSTED_PROXIES must be addresses or ranges: 10.0.0.0/8,fd00::/8")
        }
        return range
      }
    api.address = ClientAddress(
      trustedProxies: proxies, detail: try settings.choice("METER_CLIENT_IP", default: .truncated))
    cacheEntries = try settings.integer(
      "METER_LICENSE_CACHE", default: 100_000, in: 1_000...10_000_000)
    tls = try Self.tls(settings)
    requestMilliseconds = try settings.milliseconds(
      "METER_REQUEST_TIMEOUT", default: 15_000, in: 100...3_600_000)
  }

  private static func rate(
    _ settings: Settings, _ name: String, _ perSecond: Int, _ burst: Int
  ) throws -> RateLimiter.Rate {
    RateLimiter.Rate(
      perSecond: try settings.integer(name, default: perSecond, in: 1...1_000_000),
      burst: try settings.integer(name + "_BURST", default: burst, in: 1...10_000_000))
  }

  private static func tls(_ settings: Settings) throws -> NIOSSLContext? {
    let certificate = try settings.optionalString("METER_TLS_CERT")
    let key = try settings.optionalString("METER_TLS_KEY")
    guard certificate != nil || key != nil else { return nil }
    guard let certificate, let key else {
      throw ConfigurationError("METER_TLS_CERT and METER_TLS_KEY must both be set")
    }
    var configuration: TLSConfiguration
    do {
      // PEM itself, or the path of a file that holds it.
      let chain =
        certificate.contains("-----BEGIN")
        ? try NIOSSLCertificate.fromPEMBytes(Array(certificate.utf8))
        : try NIOSSLCertificate.fromPEMFile(certificate)
      let privateKey =
        key.contains("-----BEGIN")
        ? try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem)
        : try NIOSSLPrivateKey(file: key, format: .pem)
      configuration = .makeServerConfiguration(
        certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(privateKey))
    } catch {
      throw ConfigurationError(
        "METER_TLS_CERT and METER_TLS_KEY must be PEM: a certificate chain and its key")
    }
    configuration.minimumTLSVersion = .tlsv12
    configuration.applicationProtocols = ["http/1.1"]
    do {
      // Here, where it is one line and not a connection's failure: it finds out whether the two belong together.
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw ConfigurationError(
        "METER_TLS_CERT and METER_TLS_KEY do not belong together: the key is not the certificate's")
    }
  }
}
