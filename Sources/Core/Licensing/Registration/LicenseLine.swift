package import JSONText
package import Metering

/// A license as it is registered. It is read from a line of an import, from the body of `POST
/// /v1/licenses`, and from a license with a merge patch applied. Every member is checked.
package struct LicenseLine: Sendable {
  /// The most items that a list, or the limits, may have.
  package static let maximumItems = 1_000

  package var licenseID: Identifier
  package var customerID: Identifier
  package var plan: String
  package var features: [String]
  package var domains: [String]
  /// The limits, sorted by meter.
  package var limits: [Limit]
  package var seats: Int64?
  package var status: String
  /// Microseconds since 1970, as PostgreSQL keeps them.
  package var issuedAt: Int64
  package var expiresAt: Int64
  /// Nil keeps the license's value, or uses the default for a new license.
  package var billingAnchorDay: Int64?
  package var trial: Bool?
  package var overagePolicy: String?
  package var alertThresholds: [Int64]?
  /// Members that are unknown and probably misspelled.
  package var unknown: [Identifier] = []

  package struct Limit: Equatable, Sendable {
    package var meter: Identifier
    package var quantity: Int64
  }

  /// The error, without the value.
  package struct Invalid: Error, Equatable, Sendable, CustomStringConvertible {
    /// The member, such as `limits.seats`. It is empty if the whole text is wrong.
    package let member: String
    package let detail: String

    package init(_ member: String, _ detail: String) {
      self.member = member
      self.detail = detail
    }

    package var description: String { member.isEmpty ? detail : "\(member): \(detail)" }
  }

  private static let names: Set<Identifier> = [
    "license_id", "customer_id", "plan", "features", "domains", "limits", "status", "issued_at",
    "expires_at", "billing_anchor_day", "trial", "overage_policy", "alert_thresholds",
  ]

  /// - Throws: `Invalid` for the first error.
  package init(_ text: [UInt8], rules: some DomainNameRules) throws(Invalid) {
    let value: JSONValue
    do {
      value = try JSONReader.parse(text, maximumValues: 10 * Self.maximumItems)
    } catch {
      throw Invalid("", "the line is not JSON: \(error)")
    }
    try self.init(value, rules: rules)
  }

  /// - Throws: `Invalid` for the first error.
  package init(_ value: JSONValue, rules: some DomainNameRules) throws(Invalid) {
    guard case .object(let members) = value else {
      throw Invalid("", "the line is not a JSON object")
    }
    // The last of two members would win without a word.
    if let name = members.repeatedName {
      throw Invalid(String(name.prefix(100)), "must be given once")
    }
    let fields = MemberReader(members)

    licenseID = try fields.identifier("license_id", maximumBytes: Limits.subjectBytes)
    customerID = try fields.identifier("customer_id", maximumBytes: 256)
    plan = try fields.text("plan", maximumBytes: 256)
    features = try fields.texts("features", maximumBytes: 256)
    domains = try Self.domains(try fields.texts("domains", maximumBytes: 256), rules: rules)
    (limits, seats) = try Self.limits(fields)
    status = try fields.choice("status", ["active", "suspended", "canceled"])
    issuedAt = try fields.microseconds("issued_at")
    expiresAt = try fields.microseconds("expires_at")
    guard issuedAt < expiresAt else {
      throw Invalid("expires_at", "must be later than issued_at")
    }
    if fields.has("billing_anchor_day") {
      billingAnchorDay = try fields.integer("billing_anchor_day", 1...31)
    }
    if fields.has("trial") { trial = try fields.boolean("trial") }
    if fields.has("overage_policy") {
      overagePolicy = try fields.choice("overage_policy", ["block", "allow"])
    }
    if fields.has("alert_thresholds") {
      alertThresholds = Set(try fields.integers("alert_thresholds", 1...1_000)).sorted()
    }
    for member in members {
      let name = Identifier(String(decoding: member.name.bytes, as: UTF8.self))
      if !Self.names.contains(name) { unknown.append(name) }
    }
  }

  /// The meter of a limit, by the limit's name.
  package static func meter(_ name: String) -> String { name == "apiCalls" ? "api_calls" : name }

  /// `apiCalls` is the meter `api_calls`. `seats` is not a meter but a member of the license. All
  /// other names are names of meters.
  private static func limits(_ fields: MemberReader) throws(Invalid) -> ([Limit], Int64?) {
    guard case .object(let members)? = fields.members["limits"] else {
      throw Invalid("limits", "must be an object, such as {\"apiCalls\":50000,\"seats\":10}")
    }
    guard members.count <= maximumItems else {
      throw Invalid("limits", "must have at most \(maximumItems) members")
    }
    let own = MemberReader(members, in: "limits.")
    var limits: [Identifier: Int64] = [:]
    var seats: Int64?
    var seen: Set<Identifier> = []
    for member in members {
      let name = String(decoding: member.name.bytes, as: UTF8.self)
      let meter = Identifier(meter(name))
      let isSeats = name == "seats"
      guard isSeats || MeterName.isValid(meter.string) else {
        throw Invalid(
          "limits", "a meter must match [a-z][a-z0-9_]{0,63} (or be apiCalls, seats)")
      }
      guard seen.insert(meter).inserted else {
        throw Invalid("limits.\(meter)", "must be given once")
      }
      // Null stands for no limit, like an absent member.
      guard member.value != .null else { continue }
      if isSeats {
        seats = try own.integer(name, 0...Int64(Int32.max))
      } else {
        limits[meter] = try own.integer(name, 0...1_000_000_000_000_000_000)
      }
    }
    return (limits.keys.sorted().map { Limit(meter: $0, quantity: limits[$0]!) }, seats)
  }

  private static func domains(
    _ texts: [String], rules: some DomainNameRules
  ) throws(Invalid) -> [String] {
    var result: [String] = []
    var seen: Set<Identifier> = []
    for text in texts {
      let domain: String
      do {
        domain = try BoundDomains.normalized(text, rules: rules)
      } catch {
        throw Invalid("domains", error.description)
      }
      if seen.insert(Identifier(domain)).inserted { result.append(domain) }
    }
    return result
  }
}

extension LicenseLine {
  /// Appends the license to an array that the caller opened, as `LicenseStore.upsert` reads it.
  package func write(to writer: inout JSONWriter) {
    writer.beginObject()
    writer.member("license_id", licenseID.string)
    writer.member("customer_id", customerID.string)
    writer.member("plan", plan)
    writer.member("features", features)
    writer.member("domains", domains)
    writer.name("limits")
    writer.beginObject()
    for limit in limits { writer.member(limit.meter.string, limit.quantity) }
    writer.endObject()
    writer.member("seats", optional: seats)
    writer.member("status", status)
    writer.member("issued_at", Self.time(issuedAt))
    writer.member("expires_at", Self.time(expiresAt))
    writer.member("billing_anchor_day", optional: billingAnchorDay)
    writer.name("trial")
    if let trial { writer.boolean(trial) } else { writer.null() }
    writer.name("overage_policy")
    if let overagePolicy { writer.text(overagePolicy) } else { writer.null() }
    writer.name("alert_thresholds")
    if let alertThresholds {
      writer.beginArray()
      for threshold in alertThresholds { writer.integer(threshold) }
      writer.endArray()
    } else {
      writer.null()
    }
    writer.endObject()
  }

  /// Writes a time as RFC 3339 with microseconds.
  private static func time(_ microseconds: Int64) -> String {
    let part = ((microseconds % 1_000) + 1_000) % 1_000
    let digits = String(part)
    return UTCTime.text((microseconds - part) / 1_000).dropLast()
      + String(repeating: "0", count: 3 - digits.count) + digits + "Z"
  }
}

extension JSONWriter {
  fileprivate mutating func member(_ name: String, optional value: Int64?) {
    self.name(name)
    if let value { integer(value) } else { null() }
  }
}
