import Administration
import Metering
import MeteringTestKit
import PostgresStore
import Testing
import WebhookDelivery

@Suite struct EndpointAdministrationTests {
  private let office: Office

  init() throws {
    office = try Office()
    for id in ["cus_1", "cus_2"] {
      _ = try office.vendor.createCustomer(office.json(#"{"customer_id":"\#(id)"}"#))
    }
  }

  private func endpoint(
    _ by: Administrator, _ more: String = ""
  ) throws -> (endpoint: EndpointStore.Endpoint, secret: String) {
    try by.createEndpoint(
      Administrator.NewEndpoint(office.json(#"{"url":"https://example.com/hook"\#(more)}"#)),
      office.rules)
  }

  @Test func `An endpoint is made, changed, tested, disabled, enabled and deleted`() throws {
    let made = try endpoint(office.vendor, #","customer_id":"cus_1""#)
    #expect(made.secret.hasPrefix("whsec_"))
    let id = made.endpoint.id
    let changed = try office.vendor.updateEndpoint(
      id, patch: office.json(#"{"events":["license.expired"],"status":"disabled"}"#), office.rules)
    #expect(changed.events == ["license.expired"] && changed.status == "disabled")
    #expect(Office.refusal { try office.vendor.testEndpoint(id) } == "endpoint_disabled")
    #expect(
      Office.refusal {
        try office.vendor.recoverEndpoint(id, sinceMilliseconds: 0, untilMilliseconds: 1)
      } == "endpoint_disabled")
    #expect(try office.vendor.enableEndpoint(id).status == "active")
    let delivery = try office.vendor.testEndpoint(id)
    try office.vendor.redeliver(delivery)
    let rotated = try office.vendor.rotateSecret(id, office.rules)
    #expect(rotated.secret != made.secret)
    #expect(
      try office.vendor.recoverEndpoint(id, sinceMilliseconds: 0, untilMilliseconds: 1) == 0)
    try office.vendor.deleteEndpoint(id)
    #expect(Office.refusal { try office.vendor.enableEndpoint(id) } == "not_found")
    #expect(
      try office.audit().map(\.action).prefix(8) == [
        "webhook_endpoint.delete", "webhook_endpoint.recover", "webhook_endpoint.rotate_secret",
        "webhook_delivery.redeliver", "webhook_endpoint.test", "webhook_endpoint.enable",
        "webhook_endpoint.update", "webhook_endpoint.create",
      ])
    let log = try office.database.rows("select audit_log::text from audit_log")
      .flatMap { $0.compactMap { $0 } }.joined()
    #expect(!log.contains("whsec_") && !log.contains(made.secret.dropFirst(6)))
  }

  @Test func `Hostile addresses and unknown types are refused`() throws {
    for body in [
      #"{"url":"http://example.com/"}"#, #"{"url":"https://127.0.0.1/"}"#,
      #"{"url":"https://169.254.169.254/"}"#, #"{"url":"ftp://example.com"}"#, "{}",
      #"{"url":"https://example.com/","events":["license.unknown"]}"#,
      #"{"url":"https://example.com/","signing":"v2"}"#,
      #"{"url":"https://example.com/","secret":"whsec_mine"}"#,
    ] {
      #expect(
        Office.refusal {
          try office.vendor.createEndpoint(
            Administrator.NewEndpoint(office.json(body)), office.rules)
        } == "bad_request", "\(body)")
    }
    let missing = Office.refusal { try endpoint(office.vendor, #","customer_id":"cus_nobody""#) }
    #expect(missing == "not_found")
  }

  @Test func `A customer reaches its own endpoints and deliveries only`() throws {
    let foreign = try endpoint(office.vendor, #","customer_id":"cus_1""#).endpoint.id
    let vendors = try endpoint(office.vendor).endpoint.id
    let delivery = try office.vendor.testEndpoint(foreign)
    let tenant = try office.tenant("cus_2")
    let own = try endpoint(tenant)
    #expect(own.endpoint.customer == "cus_2")
    for id in [foreign, vendors] {
      let codes = [
        Office.refusal { try tenant.updateEndpoint(id, patch: office.json("{}"), office.rules) },
        Office.refusal { try tenant.enableEndpoint(id) },
        Office.refusal { try tenant.disableEndpoint(id) },
        Office.refusal { try tenant.deleteEndpoint(id) },
        Office.refusal { try tenant.rotateSecret(id, office.rules) },
        Office.refusal { try tenant.testEndpoint(id) },
        Office.refusal {
          try tenant.recoverEndpoint(id, sinceMilliseconds: 0, untilMilliseconds: 1)
        },
      ]
      #expect(codes == Array(repeating: "not_found", count: codes.count))
    }
    #expect(Office.refusal { try tenant.redeliver(delivery) } == "not_found")
    #expect(
      Office.refusal { try endpoint(tenant, #","customer_id":"cus_1""#) } == "not_found")
  }

  @Test func `Requests at the same time give no customer more endpoints than it may have`() throws {
    let most = EndpointStore.maximumPerCustomer
    let tenant = try office.tenant("cus_2")
    for _ in 0..<(most - 1) { _ = try endpoint(tenant) }
    let (url, rules) = (office.database.url, office.rules)
    let rivals = (0..<4).map { _ in
      InBackground {
        let rival = Administrator(
          try PostgresConnection(url: url, application: "test"),
          by: AuditContext(actorKind: .token, actorID: "tok_cus_2"), tenant: Identifier("cus_2"))
        return Office.refusal {
          try rival.createEndpoint(
            .init(customerID: nil, url: "https://example.com/hook", events: [], signing: .v1),
            rules)
        }
      }
    }
    let ends = try rivals.map { try $0.value() }
    #expect(ends.count { $0 == nil } == 1)
    #expect(ends.count { $0 == "too_many_endpoints" } == 3, "\(ends)")
    // A disabled endpoint can be enabled again, so it counts too.
    let list = EndpointStore(try office.database.connection())
    let mine = try list.list(customer: "cus_2", limit: 100)
    #expect(mine.count == most)
    _ = try tenant.disableEndpoint(mine[0].id)
    let byVendor = Office.refusal { try endpoint(office.vendor, #","customer_id":"cus_2""#) }
    #expect(byVendor == "too_many_endpoints")
    try tenant.deleteEndpoint(mine[0].id)
    _ = try endpoint(tenant)
    _ = try endpoint(office.vendor, #","customer_id":"cus_1""#)
  }

  @Test func `Tests that wait are bounded, and a recovery sends as many again as it may`() throws {
    let id = try endpoint(office.vendor).endpoint.id
    for _ in 0..<Administrator.maximumPendingTests { _ = try office.vendor.testEndpoint(id) }
    #expect(Office.refusal { try office.vendor.testEndpoint(id) } == "too_many_tests")
    let other = try endpoint(office.vendor).endpoint.id
    _ = try office.vendor.testEndpoint(other)
    try office.database.execute(
      """
      update webhook_delivery set status = 'failed', next_attempt_at = null, finished_at = now()
      where endpoint_id = '\(id)'
      """)
    _ = try office.vendor.testEndpoint(id)
    func recover(_ most: Int) throws -> Int {
      try office.vendor.recoverEndpoint(
        id, sinceMilliseconds: 0, untilMilliseconds: 4_000_000_000_000, most: most)
    }
    let total = Administrator.maximumPendingTests
    #expect(try recover(12) == 12)
    #expect(try recover(12) == total - 12)
    #expect(try recover(12) == 0)
  }
}
