package import JSONText
import Metering
package import PostgresStore
import SystemRandom
package import WebhookDelivery

/// Webhook endpoints: made, changed, tested, deleted.
extension Administrator {
  private var endpoints: EndpointStore { EndpointStore(connection) }

  /// What an endpoint is made of.
  package struct NewEndpoint: Sendable {
    /// nil: alerts of all customers, for the vendor.
    package var customerID: String?
    package var url: String
    /// Empty: all types.
    package var events: [String]
    package var signing: SigningSecret.Scheme

    package init(
      customerID: String?, url: String, events: [String], signing: SigningSecret.Scheme
    ) {
      self.customerID = customerID
      self.url = url
      self.events = events
      self.signing = signing
    }

    /// - Parameter body: `url`, `events` (all), `customer_id` (null: all customers), `signing` (`v1`).
    /// - Throws: `AdministrationRefusal`, `bad_request`.
    package init(_ body: JSONValue) throws {
      let members = try Administrator.members(body, ["customer_id", "url", "events", "signing"])
      customerID = try Administrator.text(members, "customer_id", bytes: 256)
      guard let url = try Administrator.text(members, "url", bytes: 2_048) else {
        throw AdministrationRefusal.invalid("url", "is missing")
      }
      self.url = url
      events = try Administrator.texts(members, "events", bytes: 64, most: 32) ?? []
      let signing = try Administrator.choice(
        members, "signing", SigningSecret.Scheme.allCases.map(\.rawValue))
      self.signing = signing.flatMap(SigningSecret.Scheme.init) ?? .v1
    }
  }

  /// Makes an endpoint. Its secret is answered once, and kept encrypted.
  ///
  /// - Throws: `AdministrationRefusal`: `bad_request`, `not_found` for the customer, `no_encryption_key`; `PostgresError`.
  package func createEndpoint(
    _ new: NewEndpoint, _ rules: EndpointRules
  ) throws -> (endpoint: EndpointStore.Endpoint, secret: String) {
    let customer = new.customerID ?? tenant?.string
    if let customer { try checkTenant(Identifier(customer), "customer") }
    let url = try rules.checkedURL(new.url)
    let events = try EndpointRules.checkedEvents(new.events)
    let id = EndpointID.make(SystemRandom.bytes(EndpointID.randomBytes))
    let secret = try rules.newSecret(new.signing, endpoint: id)
    return try connection.transaction {
      do {
        try endpoints.add(
          id: id, customer: customer, url: url, events: events, signing: new.signing.rawValue,
          sealedSecret: secret.sealed)
      } catch let error as PostgresError where error.sqlState == SQLState.foreignKeyViolation {
        throw AdministrationRefusal.noSuch("customer")
      }
      let made = try keptEndpoint(id, "webhook_endpoint.create", before: nil, status: 201)
      return (made, secret.verifier)
    }
  }

  /// Changes `url`, `events` or `status` (`active`, `disabled`) by a JSON Merge Patch. Disabled ones
  /// are sent nothing; what is pending for them is discarded.
  ///
  /// - Parameter isExpected: what the caller last saw; false refuses with `changed_meanwhile`.
  /// - Throws: `AdministrationRefusal`; `PostgresError`.
  package func updateEndpoint(
    _ id: String, patch: JSONValue, _ rules: EndpointRules,
    isExpected: (EndpointStore.Endpoint) -> Bool = { _ in true }
  ) throws -> EndpointStore.Endpoint {
    let members = try Self.members(patch, ["url", "events", "status"])
    let url = try Self.text(members, "url", bytes: 2_048).map { try rules.checkedURL($0) }
    if members["url"] == .null { throw AdministrationRefusal.invalid("url", "cannot be removed") }
    // Null is what an endpoint has that was made without events: all of them.
    let events =
      members["events"] == nil
      ? nil
      : try EndpointRules.checkedEvents(
        try Self.texts(members, "events", bytes: 64, most: 32) ?? [])
    let status = try Self.choice(members, "status", ["active", "disabled"])
    return try connection.transaction {
      let before = try endpoint(id)
      guard isExpected(before) else {
        throw AdministrationRefusal(
          .changedMeanwhile, "changed_meanwhile",
          "the endpoint has changed since it was read, so read it again first")
      }
      _ = try endpoints.update(id, url: url, events: events)
      if status == "disabled", before.status != "disabled" {
        _ = try endpoints.disable(id, reason: EndpointHealth.DisabledReason.manual.rawValue)
      } else if status == "active", before.status != "active" {
        _ = try endpoints.enable(id)
      }
      return try keptEndpoint(id, "webhook_endpoint.update", before: before)
    }
  }

  /// Sends to it again, its breaker closed. What it missed meanwhile is sent by `recoverEndpoint`.
  package func enableEndpoint(_ id: String) throws -> EndpointStore.Endpoint {
    try connection.transaction {
      let before = try endpoint(id)
      _ = try endpoints.enable(id)
      return try keptEndpoint(id, "webhook_endpoint.enable", before: before)
    }
  }

  package func disableEndpoint(_ id: String) throws -> EndpointStore.Endpoint {
    try connection.transaction {
      let before = try endpoint(id)
      _ = try endpoints.disable(id, reason: EndpointHealth.DisabledReason.manual.rawValue)
      return try keptEndpoint(id, "webhook_endpoint.disable", before: before)
    }
  }

  /// Deletes it with its deliveries and attempts.
  package func deleteEndpoint(_ id: String) throws {
    let before = try endpoint(id)
    // Outside of a transaction the deliveries go some at a time. The row says who began it.
    try record(
      AuditedChange(
        "webhook_endpoint.delete", "webhook_endpoint", id, customerID: before.customer,
        before: Self.audited(before)), status: 204)
    guard try endpoints.delete(id) else {
      throw AdministrationRefusal.noSuch("webhook endpoint")
    }
  }

  /// A new secret, which signs from now on; the one before it signs beside it for 24 hours.
  package func rotateSecret(
    _ id: String, _ rules: EndpointRules
  ) throws -> (endpoint: EndpointStore.Endpoint, secret: String) {
    try connection.transaction {
      let found = try endpoint(id)
      guard let scheme = SigningSecret.Scheme(rawValue: found.signing) else {
        throw AdministrationRefusal.noSuch("webhook endpoint")
      }
      let secret = try rules.newSecret(scheme, endpoint: id)
      guard try endpoints.rotate(id, sealedSecret: secret.sealed) else {
        throw AdministrationRefusal.noSuch("webhook endpoint")
      }
      try record(
        AuditedChange(
          "webhook_endpoint.rotate_secret", "webhook_endpoint", id, customerID: found.customer))
      return (found, secret.verifier)
    }
  }

  /// An alert of the type `webhook.test` for it alone. Returns the delivery's id.
  ///
  /// - Throws: `AdministrationRefusal`: `not_found`, `endpoint_disabled`; `PostgresError`.
  package func testEndpoint(_ id: String) throws -> Int64 {
    try connection.transaction {
      let found = try activeEndpoint(id)
      guard let delivery = try endpoints.test(id) else { throw Self.isDisabled }
      try record(
        AuditedChange(
          "webhook_endpoint.test", "webhook_endpoint", id, customerID: found.customer,
          after: #"{"delivery_id":\#(delivery)}"#), status: 202)
      return delivery
    }
  }

  /// Sends everything again that the endpoint missed of the half-open span: what failed or was discarded.
  /// Returns how many deliveries that are.
  ///
  /// - Throws: `AdministrationRefusal`: `not_found`, `endpoint_disabled`, `bad_request`; `PostgresError`.
  package func recoverEndpoint(
    _ id: String, sinceMilliseconds: Int64, untilMilliseconds: Int64
  ) throws -> Int {
    guard sinceMilliseconds < untilMilliseconds else {
      throw AdministrationRefusal.invalid("since", "must be before until")
    }
    let found = try activeEndpoint(id)
    let count = try endpoints.recover(
      id, sinceMilliseconds: sinceMilliseconds, untilMilliseconds: untilMilliseconds)
    let since = UTCTime.text(sinceMilliseconds)
    let until = UTCTime.text(untilMilliseconds)
    try record(
      AuditedChange(
        "webhook_endpoint.recover", "webhook_endpoint", id, customerID: found.customer,
        after: #"{"since":"\#(since)","until":"\#(until)","recovered":\#(count)}"#))
    return count
  }

  /// Sends one delivery again, now, under the same `webhook-id`, whatever became of it.
  ///
  /// - Throws: `AdministrationRefusal`: `not_found`, `endpoint_disabled`; `PostgresError`.
  package func redeliver(_ id: Int64) throws {
    try connection.transaction {
      guard let found = try endpoints.deliveries(id: id, limit: 1).first,
        let endpoint = try endpoints.list(id: found.endpoint, limit: 1).first
      else { throw AdministrationRefusal.noSuch("delivery") }
      try checkTenant(endpoint.customer.map(Identifier.init(_:)), "delivery")
      guard try endpoints.redeliver(id) else { throw Self.isDisabled }
      try record(
        AuditedChange(
          "webhook_delivery.redeliver", "webhook_delivery", "\(id)",
          customerID: endpoint.customer, before: #"{"status":"\#(found.status)"}"#,
          after: #"{"status":"pending"}"#), status: 202)
    }
  }

  // MARK: -

  private static let isDisabled = AdministrationRefusal(
    .conflict, "endpoint_disabled", "the endpoint is disabled, so enable it first")

  private func endpoint(_ id: String) throws -> EndpointStore.Endpoint {
    guard let found = try endpoints.list(id: id, limit: 1).first else {
      throw AdministrationRefusal.noSuch("webhook endpoint")
    }
    try checkTenant(found.customer.map(Identifier.init(_:)), "webhook endpoint")
    return found
  }

  private func activeEndpoint(_ id: String) throws -> EndpointStore.Endpoint {
    let found = try endpoint(id)
    guard found.status == "active" else { throw Self.isDisabled }
    return found
  }

  private func keptEndpoint(
    _ id: String, _ action: String, before: EndpointStore.Endpoint?, status: Int = 200
  ) throws -> EndpointStore.Endpoint {
    let after = try endpoint(id)
    try record(
      AuditedChange(
        action, "webhook_endpoint", id, customerID: after.customer,
        before: before.map(Self.audited), after: Self.audited(after)), status: status)
    return after
  }

  private static func audited(_ endpoint: EndpointStore.Endpoint) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    writer.member("customer_id", optional: endpoint.customer)
    writer.member("url", endpoint.url)
    writer.member("events", endpoint.events)
    writer.member("status", endpoint.status)
    writer.member("signing", endpoint.signing)
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
  }
}
