package import JSONText
import Metering
package import PostgresStore
import SystemRandom
package import WebhookDelivery

/// Makes, changes, tests and deletes webhook endpoints.
extension Administrator {
  private var endpoints: EndpointStore { EndpointStore(connection) }

  /// The values of a new endpoint.
  package struct NewEndpoint: Sendable {
    /// The customer whose alerts are sent. Nil stands for all customers, which only the vendor may
    /// choose.
    package var customerID: String?
    package var url: String
    /// The types of alerts. An empty list stands for all types.
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

    /// - Parameter body: `url`, `events` (default: all), `customer_id` (null for all customers),
    ///   `signing` (default: `v1`).
    /// - Throws: `AdministrationRefusal` with `bad_request`.
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

  /// Makes an endpoint. Its secret is returned once and stored encrypted.
  ///
  /// - Throws: `AdministrationRefusal` with `bad_request`, `not_found` (for the customer),
  ///   `too_many_endpoints` or `no_encryption_key`, or `PostgresError`.
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
      } catch is EndpointStore.TooMany {
        throw AdministrationRefusal(
          .conflict, "too_many_endpoints",
          "the customer has \(EndpointStore.maximumPerCustomer) webhook endpoints, which is the most; "
            + "delete one first")
      }
      let made = try keptEndpoint(id, "webhook_endpoint.create", before: nil, status: 201)
      return (made, secret.verifier)
    }
  }

  /// Changes `url`, `events` or `status` (`active`, `disabled`) with a JSON Merge Patch. A disabled
  /// endpoint is sent nothing, and its pending deliveries are discarded.
  ///
  /// - Parameter isExpected: whether the endpoint is as the caller last saw it. If it returns
  ///   false, the change is refused with `changed_meanwhile`.
  /// - Throws: `AdministrationRefusal` or `PostgresError`.
  package func updateEndpoint(
    _ id: String, patch: JSONValue, _ rules: EndpointRules,
    isExpected: (EndpointStore.Endpoint) -> Bool = { _ in true }
  ) throws -> EndpointStore.Endpoint {
    let members = try Self.members(patch, ["url", "events", "status"])
    let url = try Self.text(members, "url", bytes: 2_048).map { try rules.checkedURL($0) }
    if members["url"] == .null { throw AdministrationRefusal.invalid("url", "cannot be removed") }
    // Null stands for all events, as for an endpoint that was made without events.
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

  /// Enables an endpoint and closes its breaker. `recoverEndpoint` sends what it missed.
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
    // Outside of a transaction, the deliveries are deleted in batches. The audit row says who began
    // it.
    try record(
      AuditedChange(
        "webhook_endpoint.delete", "webhook_endpoint", id, customerID: before.customer,
        before: Self.audited(before)), status: 204)
    guard try endpoints.delete(id) else {
      throw AdministrationRefusal.noSuch("webhook endpoint")
    }
  }

  /// Makes a new secret, which signs from now on. The secret before it also signs for 24 hours.
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

  /// How many tests of one endpoint may wait to be delivered.
  package static let maximumPendingTests = 20

  /// How many deliveries one request of the API may send again.
  package static let maximumRecovered = 50_000

  /// Raises an alert of the type `webhook.test` for this endpoint only, and returns the delivery's
  /// id.
  ///
  /// - Throws: `AdministrationRefusal` with `not_found`, `endpoint_disabled` or `too_many_tests`, or
  ///   `PostgresError`.
  package func testEndpoint(_ id: String) throws -> Int64 {
    try connection.transaction {
      let found = try activeEndpoint(id)
      guard try endpoints.pendingTests(id) < Self.maximumPendingTests else {
        throw AdministrationRefusal(
          .conflict, "too_many_tests",
          "\(Self.maximumPendingTests) tests of this endpoint are under way; look at those first")
      }
      guard let delivery = try endpoints.test(id) else { throw Self.isDisabled }
      try record(
        AuditedChange(
          "webhook_endpoint.test", "webhook_endpoint", id, customerID: found.customer,
          after: #"{"delivery_id":\#(delivery)}"#), status: 202)
      return delivery
    }
  }

  /// Sends all deliveries of a half-open span again that failed or were discarded, and returns
  /// their number.
  ///
  /// - Parameter most: how many are sent again at most, the oldest first.
  /// - Throws: `AdministrationRefusal` with `not_found`, `endpoint_disabled` or `bad_request`, or
  ///   `PostgresError`.
  package func recoverEndpoint(
    _ id: String, sinceMilliseconds: Int64, untilMilliseconds: Int64, most: Int = .max
  ) throws -> Int {
    guard sinceMilliseconds < untilMilliseconds else {
      throw AdministrationRefusal.invalid("since", "must be before until")
    }
    let found = try activeEndpoint(id)
    let count = try endpoints.recover(
      id, sinceMilliseconds: sinceMilliseconds, untilMilliseconds: untilMilliseconds, most: most)
    let since = UTCTime.text(sinceMilliseconds)
    let until = UTCTime.text(untilMilliseconds)
    try record(
      AuditedChange(
        "webhook_endpoint.recover", "webhook_endpoint", id, customerID: found.customer,
        after: #"{"since":"\#(since)","until":"\#(until)","recovered":\#(count)}"#))
    return count
  }

  /// Sends one delivery again now under the same `webhook-id`, whatever its state.
  ///
  /// - Throws: `AdministrationRefusal` with `not_found` or `endpoint_disabled`, or `PostgresError`.
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
