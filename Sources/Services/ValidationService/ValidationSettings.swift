import EventPublisher
import Foundation
import HTTPListening
import Licensing
import Metering
import NIOSSL
import PostgresStore
import ServiceRuntime

/// The service's settings. `--help` lists the variables.
struct ValidationSettings: Sendable {
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
  /// If it is nil, one address may use half of the connections that the limit of open files allows.
  var connectionsPerAddress: Int?

  /// - Throws: `ConfigurationError`, one line that names the variable.
  init(_ settings: Settings) throws {
    databaseURL = try settings[DeclaredSettings.databaseURL]
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    bind = try settings[DeclaredSettings.httpBind(port: 8080)]
    adminBind = try settings[DeclaredSettings.adminBind(port: 9100)]
    do {
      keys = try JSONWebKeySet(json: settings[DeclaredSettings.signingKey].utf8)
    } catch let error as JSONWebKey.Invalid {
      throw ConfigurationError("METER_SIGNING_KEY: \(error). Run: meterctl key generate")
    }
    guard let signer = VerdictSigner(keys: keys) else {
      throw ConfigurationError(
        "METER_SIGNING_KEY has no private key for verdicts. Run: meterctl key generate")
    }
    verdictSigner = signer
    publisher = EventPublisher.Configuration(
      brokers: try settings[DeclaredSettings.kafkaBrokers],
      spoolDirectory: try settings[DeclaredSettings.spoolDirectory])
    publisher.kafkaConfigFile = try settings[DeclaredSettings.kafkaConfigFile]
    publisher.maximumBytes = try settings[DeclaredSettings.spoolMaxBytes]
    publisher.sync = try settings.value(
      of: DeclaredSettings.spoolSync, as: EventPublisher.SyncMode.self)
    let instance = try settings[DeclaredSettings.instance]
    publisher.producerPrefix = instance
    api.source = "/validation/" + instance
    api.eventRules.maxQuantity = try settings.maxQuantity()
    publisher.maximumQuantity = api.eventRules.maxQuantity
    api.eventRules.maxEventAgeMilliseconds = try settings.maxEventAgeMilliseconds()
    api.requiresKey = try settings[DeclaredSettings.requireAPIKey]
    api.keyRate = try Self.rate(settings, DeclaredSettings.rateLimit)
    api.anonymousRate = try Self.rate(settings, DeclaredSettings.anonymousRateLimit)
    api.addressRate = try Self.rate(settings, DeclaredSettings.addressRateLimit)
    api.unknownRate = try Self.rate(settings, DeclaredSettings.unknownRateLimit)
    connectionsPerAddress = try settings[DeclaredSettings.maxConnectionsPerAddress]
    api.maximumDelayed = try settings[DeclaredSettings.maxDelayedRequests]
    api.address = ClientAddress(
      trustedProxies: try settings.trustedProxies(),
      detail: try settings.value(of: DeclaredSettings.clientIP, as: ClientAddress.Detail.self))
    cacheEntries = try settings[DeclaredSettings.licenseCache]
    tls = try settings.listenerTLS()
    requestMilliseconds = try settings[DeclaredSettings.requestTimeout]
  }

  private static func rate(
    _ settings: Settings, _ rate: DeclaredSettings.RateSettings
  ) throws -> RateLimiter.Rate {
    RateLimiter.Rate(
      perSecond: try settings[rate.perSecond],
      burst: try settings[rate.burst])
  }
}
