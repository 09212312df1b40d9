package import Metering
import NIOSSL
import PostgresStore
package import ServiceRuntime
package import WebhookDelivery

/// What the dispatcher is configured by; `--help` lists the variables.
package struct DispatcherSettings: Sendable {
  package var databaseURL: String
  package var box: SecretBox
  package var sender = Sender.Settings()
  package var limits = DeliveryScheduler<Claimed>.Limits()
  package var leaseSeconds = 60
  package var pollMilliseconds = 1_000
  package var expirySweepMilliseconds = 60_000
  package var retentionDays = 90
  /// Where the pages of alerts are; nil: webhooks name none.
  package var pages: PageAddresses?

  /// - Throws: `ConfigurationError`, one line that names the variable.
  package init(_ settings: Settings) throws {
    databaseURL = try settings.required("METER_DATABASE_URL")
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    do {
      box = try SecretBox(base64Key: settings.required("METER_ENCRYPTION_KEY"))
      sender.policy = try TargetAddressPolicy(
        cidrs: settings.string("METER_WEBHOOK_ALLOW_CIDRS", default: ""))
    } catch let error as SecretBox.Invalid {
      throw ConfigurationError(error.description)
    } catch let error as TargetAddressPolicy.Invalid {
      throw ConfigurationError(error.description)
    }
    pages = try settings.pageAddresses()
    sender.allowsHTTP = try settings.boolean("METER_WEBHOOK_ALLOW_HTTP", default: false)
    sender.timeoutMilliseconds = try settings.milliseconds(
      "METER_WEBHOOK_TIMEOUT", default: 15_000, in: 100...60_000)
    if let path = try settings.optionalString("METER_WEBHOOK_CA_FILE") {
      do {
        sender.trustRoots = try NIOSSLCertificate.fromPEMFile(path)
      } catch {
        throw ConfigurationError("METER_WEBHOOK_CA_FILE must be a file of PEM certificates")
      }
    }
    limits.fastSlots = try settings.integer(
      "METER_WEBHOOK_CONCURRENCY", default: limits.fastSlots, in: 1...8_192)
    // Slow slots are twice as many, and as many connections again are kept for the next request. A
    // process without descriptors dies.
    limits.fastSlots = min(
      limits.fastSlots, max(DescriptorBudget.current().apiConnections / 6, 1))
    limits.slowSlots = limits.fastSlots * 2
    limits.perEndpoint = try settings.integer(
      "METER_WEBHOOK_ENDPOINT_CONCURRENCY", default: limits.perEndpoint, in: 1...256)
    leaseSeconds =
      try settings.milliseconds("METER_WEBHOOK_LEASE", default: 60_000, in: 1_000...3_600_000)
      / 1_000
    guard leaseSeconds * 1_000 >= 2 * sender.timeoutMilliseconds else {
      throw ConfigurationError(
        "METER_WEBHOOK_LEASE must be at least twice METER_WEBHOOK_TIMEOUT: a delivery under way must not be taken by another"
      )
    }
    pollMilliseconds = try settings.milliseconds(
      "METER_WEBHOOK_POLL_INTERVAL", default: pollMilliseconds, in: 10...60_000)
    expirySweepMilliseconds = try settings.milliseconds(
      "METER_EXPIRY_SWEEP_INTERVAL", default: expirySweepMilliseconds, in: 100...86_400_000)
    retentionDays =
      try settings.milliseconds(
        "METER_WEBHOOK_RETENTION", default: 90 * 86_400_000, in: 86_400_000...(3_650 * 86_400_000))
      / 86_400_000
  }
}
