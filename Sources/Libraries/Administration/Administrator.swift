import DomainNames
import Licensing
package import Metering
package import PostgresStore

/// Makes changes on behalf of an actor. Every change and its row in the audit log are one
/// transaction.
///
/// The rules of licenses, customers, tokens, portal sessions and webhook endpoints are in
/// extensions of this type. `metering-api`, its pages and `meterctl` share them.
package struct Administrator {
  package let connection: PostgresConnection
  package let context: AuditContext
  /// The customer whose resources may be changed, or nil for the vendor, who may change all.
  /// Resources of others are treated as if they did not exist.
  package let tenant: Identifier?

  package init(
    _ connection: PostgresConnection, by context: AuditContext, tenant: Identifier? = nil
  ) {
    self.connection = connection
    self.context = context
    self.tenant = tenant
  }

  func record(_ change: AuditedChange, status: Int = 200) throws(PostgresError) {
    try AuditStore(connection).record(change, by: context, status: status)
  }

  /// - Throws: `AdministrationRefusal` if `customer` is not the tenant.
  func checkTenant(_ customer: Identifier?, _ thing: String) throws(AdministrationRefusal) {
    guard let tenant else { return }
    guard customer == tenant else { throw .noSuch(thing) }
  }

  /// The suffix list for checking domains.
  static func domainRules() throws(AdministrationRefusal) -> PublicSuffixList {
    guard let rules = PublicSuffixList.shared else {
      throw AdministrationRefusal(
        .unavailable, "no_public_suffix_list",
        "libpsl has no Public Suffix List. Run: apt-get install publicsuffix")
    }
    return rules
  }

  /// Whether a text may be an identifier, which has 1 to `bytes` bytes and no control characters.
  static func isIdentifier(_ text: String, bytes: Int) -> Bool {
    (1...bytes).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
  }
}
