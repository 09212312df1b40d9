import Administration
import JSONText
import Metering
import MeteringTestKit
import PostgresStore
import Testing
import WebhookDelivery

/// A database with an administrator of the vendor and administrators of customers.
struct Office {
  let database: TestDatabase
  let vendor: Administrator

  init() throws {
    database = try TestDatabase()
    vendor = Administrator(
      try database.connection(), by: AuditContext(actorKind: .token, actorID: "tok_vendor"))
    rules = EndpointRules(
      policy: try TargetAddressPolicy(cidrs: ""), allowsHTTP: false,
      box: try SecretBox(base64Key: "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
  }

  func tenant(_ customer: String) throws -> Administrator {
    Administrator(
      try database.connection(), by: AuditContext(actorKind: .token, actorID: "tok_\(customer)"),
      tenant: Identifier(customer))
  }

  func json(_ text: String) throws -> JSONValue { try JSONReader.parse(Array(text.utf8)) }

  /// A license with values that the test does not care about.
  func license(_ id: String, of customer: String, _ more: String = "") throws -> JSONValue {
    try json(
      """
      {"license_id":"\(id)","customer_id":"\(customer)","plan":"pro","domains":["example.com"],
       "limits":{"apiCalls":50000,"seats":10},"issued_at":"2026-01-01T00:00:00.123456Z",
       "expires_at":"2030-01-01T00:00:00Z"\(more)}
      """)
  }

  /// The audit log's entries, newest first.
  func audit() throws -> [AuditStore.Entry] {
    try AuditStore(database.connection()).list(.init(), limit: 100)
  }

  let rules: EndpointRules

  /// The code of the refusal with which `body` ends.
  static func refusal<T>(_ body: () throws -> T) -> String? {
    do {
      _ = try body()
      return nil
    } catch let refusal as AdministrationRefusal {
      return refusal.code
    } catch {
      return "\(error)"
    }
  }
}
