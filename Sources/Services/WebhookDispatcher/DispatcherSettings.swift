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
  package var leaseSeconds: Int
  package var pollMilliseconds: Int
  package var expirySweepMilliseconds: Int
  package var retentionDays: Int
  /// Where the pages of alerts are; nil: webhooks name none.
  package var pages: PageAddresses?

  /// - Throws: `ConfigurationError`, one line that names the variable.
  package init(_ settings: Settings) throws {
    databaseURL = try settings[DeclaredSettings.databaseURL]
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    do {
      box = try SecretBox(base64Key: settings[DeclaredSettings.encryptionKey])
      sender.policy = try TargetAddressPolicy(
        cidrs: settings[DeclaredSettings.webhookAllowCIDRs])
    } catch let error as SecretBox.Invalid {
      throw ConfigurationError(error.description)
    } catch let error as TargetAddressPolicy.Invalid {
      throw ConfigurationError(error.description)
    }
    pages = try settings.pageAddresses()
    sender.allowsHTTP = try settings[DeclaredSettings.webhookAllowHTTP]
    sender.timeoutMilliseconds = try settings[DeclaredSettings.webhookTimeout]
    if let path = try settings[DeclaredSettings.webhookCAFile] {
      do {
        sender.trustRoots = try NIOSSLCertificate.fromPEMFile(path)
      } catch {
        throw ConfigurationError("METER_WEBHOOK_CA_FILE must be a file of PEM certificates")
      }
    }
    limits.fastSlots = try settings[DeclaredSettings.webhookConcurrency]
    // Slow slots are twice as many, and as many connections again are kept for the next request. A
    // process without descriptors dies.
    limits.fastSlots = min(
      limits.fastSlots, max(DescriptorBudget.current().apiConnections / 6, 1))
    limits.slowSlots = limits.fastSlots * 2
    limits.perEndpoint = try settings[DeclaredSettings.webhookEndpointConcurrency]
    leaseSeconds = try settings[DeclaredSettings.webhookLease] / 1_000
    guard leaseSeconds * 1_000 >= 2 * sender.timeoutMilliseconds else {
      throw ConfigurationError(
        "METER_WEBHOOK_LEASE must be at least twice METER_WEBHOOK_TIMEOUT: a delivery under way must not be taken by another"
      )
    }
    pollMilliseconds = try settings[DeclaredSettings.webhookPollInterval]
    expirySweepMilliseconds = try settings[DeclaredSettings.expirySweepInterval]
    retentionDays = try settings[DeclaredSettings.webhookRetention] / 86_400_000
  }
}
