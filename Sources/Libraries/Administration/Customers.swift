package import JSONText
import Licensing
import Metering
package import PostgresStore

/// Makes and changes customers.
extension Administrator {
  /// The members that the body of a customer may have.
  private static let customerMembers: Set<Identifier> = [
    "customer_id", "name", "stripe_customer_id", "created_at",
  ]

  /// - Parameter body: `customer_id`, `name` (default: the id), `stripe_customer_id` (default:
  ///   none).
  /// - Throws: `AdministrationRefusal` with `bad_request` or `customer_exists`, or `PostgresError`.
  package func createCustomer(_ body: JSONValue) throws -> CustomerStore.Customer {
    let members = try Self.members(
      body, Self.customerMembers.subtracting(["created_at"]))
    let id = try Self.text(members, "customer_id", bytes: 256) ?? ""
    guard !id.isEmpty else { throw AdministrationRefusal.invalid("customer_id", "is missing") }
    try checkTenant(Identifier(id), "customer")
    let name = try Self.prose(members, "name", bytes: 256) ?? id
    let stripe = try Self.stripeID(members)
    try checkStripe(stripe, nil)
    return try connection.transaction {
      guard try CustomerStore(connection).add(id, name: name, stripeCustomerID: stripe) else {
        throw AdministrationRefusal(
          .conflict, "customer_exists", "there is already a customer with this id",
          errors: [.init(parameter: "customer_id", detail: "is already in use")])
      }
      return try keptCustomer(id, "customer.create", before: nil, status: 201)
    }
  }

  /// Changes `name` or `stripe_customer_id` with a JSON Merge Patch.
  ///
  /// - Parameter isExpected: whether the customer is as the caller last saw it. If it returns
  ///   false, the change is refused with `changed_meanwhile`.
  /// - Throws: `AdministrationRefusal` or `PostgresError`.
  package func updateCustomer(
    _ id: String, patch: JSONValue, isExpected: (CustomerStore.Customer) -> Bool = { _ in true }
  ) throws -> CustomerStore.Customer {
    let members = try Self.members(patch, Self.customerMembers)
    try checkTenant(Identifier(id), "customer")
    return try connection.transaction {
      let store = CustomerStore(connection)
      guard try store.lock(id), let before = try store.customer(id) else {
        throw AdministrationRefusal.noSuch("customer")
      }
      guard isExpected(before) else {
        throw AdministrationRefusal(
          .changedMeanwhile, "changed_meanwhile",
          "the customer has changed since it was read, so read it again first")
      }
      try Self.checkFixed(members, of: before)
      let name = try Self.prose(members, "name", bytes: 256)
      if members["name"] == .null {
        throw AdministrationRefusal.invalid("name", "cannot be removed")
      }
      let stripe =
        members["stripe_customer_id"] == nil ? before.stripeCustomerID : try Self.stripeID(members)
      try checkStripe(stripe, before.stripeCustomerID)
      _ = try store.update(id, name: name ?? before.name, stripeCustomerID: stripe)
      return try keptCustomer(id, "customer.update", before: before)
    }
  }

  /// Only the vendor may decide which Stripe account is charged.
  private func checkStripe(_ new: String?, _ old: String?) throws {
    if tenant != nil, new.map(Identifier.init(_:)) != old.map(Identifier.init(_:)) {
      throw AdministrationRefusal(
        .forbidden, "vendor_only",
        "stripe_customer_id can only be changed with a token of the vendor",
        errors: [
          .init(parameter: "stripe_customer_id", detail: "can only be changed by the vendor")
        ])
    }
  }

  private static func checkFixed(
    _ members: [JSONMember], of customer: CustomerStore.Customer
  ) throws {
    let isSameID = members["customer_id"].map { $0.text.map(Identifier.init(_:)) == customer.id }
    guard isSameID != false else {
      throw AdministrationRefusal.invalid("customer_id", "cannot be changed")
    }
    // A client may send back what it read.
    let created = UTCTime.text(customer.createdAt)
    if let value = members["created_at"],
      value.text != created, value.text != created.replacing(".000Z", with: "Z")
    {
      throw AdministrationRefusal.invalid("created_at", "cannot be changed")
    }
  }

  private static func stripeID(_ members: [JSONMember]) throws -> String? {
    guard let text = try text(members, "stripe_customer_id", bytes: 255) else { return nil }
    guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
      throw AdministrationRefusal.invalid(
        "stripe_customer_id", "must be a Stripe customer id, such as cus_NffrFeUfNV2Hib")
    }
    return text
  }

  private func keptCustomer(
    _ id: String, _ action: String, before: CustomerStore.Customer?, status: Int = 200
  ) throws -> CustomerStore.Customer {
    guard let after = try CustomerStore(connection).customer(id) else {
      throw AdministrationRefusal.noSuch("customer")
    }
    try record(
      AuditedChange(
        action, "customer", id, customerID: id, before: before.map(Self.audited),
        after: Self.audited(after)), status: status)
    return after
  }

  private static func audited(_ customer: CustomerStore.Customer) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    writer.member("name", customer.name)
    writer.member("stripe_customer_id", optional: customer.stripeCustomerID)
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
  }
}
