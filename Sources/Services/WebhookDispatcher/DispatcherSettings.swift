package import Metering
import NIOSSL
import PostgresStore
package import ServiceRuntime
package import WebhookDelivery

/// The dispatcher's settings. `--help` lists the variables.
package struct DispatcherSettings: Sendable {
  package var databaseURL: String
  package var box: SecretBox
  package var client = WebhookClient.Settings()
  package var limits = DeliveryScheduler<Claimed>.Limits()
  package var leaseSeconds: Int
  package var pollMilliseconds: Int
  package var expirySweepMilliseconds: Int
  package var retentionDays: Int
  /// The address of the pages that show alerts. If it is nil, webhooks link to no page.
  package var pages: PageAddresses?

  /// - Throws: `ConfigurationError`, one line that names the variable.
  package init(_ settings: Settings) throws {
    databaseURL = try settings[DeclaredSettings.databaseURL]
    if let problem = DatabaseURL.problem(databaseURL) { throw ConfigurationError(problem) }
    do {
      box = try SecretBox(base64Key: settings[DeclaredSettings.encryptionKey])
      client.policy = try TargetAddressPolicy(
        cidrs: settings[DeclaredSettings.webhookAllowCIDRs])
    } catch let error as SecretBox.Invalid {
      throw ConfigurationError(error.description)
    } catch let error as TargetAddressPolicy.Invalid {
      throw ConfigurationError(error.description)
    }
    pages = try settings.pageAddresses()
    client.allowsHTTP = try settings[DeclaredSettings.webhookAllowHTTP]
    client.timeoutMilliseconds = try settings[DeclaredSettings.webhookTimeout]
    if let path = try settings[DeclaredSettings.webhookCAFile] {
      do {
        client.trustRoots = try NIOSSLCertificate.fromPEMFile(path)
      } catch {
        throw ConfigurationError("METER_WEBHOOK_CA_FILE must be a file of PEM certificates")
      }
    }
    limits.fastSlots = try settings[DeclaredSettings.webhookConcurrency]
    // There are twice as many slow slots, and as many connections again are kept open for the next
    // request. A process that runs out of descriptors dies.
    limits.fastSlots = min(
      limits.fastSlots, max(DescriptorBudget.current().apiConnections / 6, 1))
    limits.slowSlots = limits.fastSlots * 2
    limits.perEndpoint = try settings[DeclaredSettings.webhookEndpointConcurrency]
    leaseSeconds = try settings[DeclaredSettings.webhookLease] / 1_000
    guard leaseSeconds * 1_000 >= 2 * client.timeoutMilliseconds else {
      throw ConfigurationError(
        "METER_WEBHOOK_LEASE must be at least twice METER_WEBHOOK_TIMEOUT, so that no other "
          + "dispatcher takes a delivery that is being sent"
      )
    }
    pollMilliseconds = try settings[DeclaredSettings.webhookPollInterval]
    expirySweepMilliseconds = try settings[DeclaredSettings.expirySweepInterval]
    retentionDays = try settings[DeclaredSettings.webhookRetention] / 86_400_000
  }
}
