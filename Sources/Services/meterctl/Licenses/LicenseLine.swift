import DomainNames
import JSONText
import Licensing
import Metering
import Recount

/// One line of `license import`: an object as DESIGN section 8 has it, checked to the last field.
struct LicenseLine: Equatable, Sendable {
  static let maximumItems = 1_000

  var licenseID: Identifier
  var customerID: Identifier
  var plan: String
  var features: [String]
  var domains: [String]
  /// By meter, sorted.
  var limits: [Limit]
  var seats: Int64?
  var status: String
  var issuedAt: Moment
  var expiresAt: Moment
  /// nil: as the license has it, or the default.
  var billingAnchorDay: Int64?
  var trial: Bool?
  var overagePolicy: String?
  var alertThresholds: [Int64]?
  /// Members that nobody reads; likely misspelled.
  var unknown: [Identifier] = []

  struct Limit: Equatable, Sendable {
    var meter: Identifier
    var quantity: Int64
  }

  /// What is wrong, without the value: `domains: …`.
  struct Invalid: Error, Equatable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
  }

  /// As `LicenseStore.upsert` wants it.
  var json: JSON {
    [
      "license_id": .text(licenseID.string), "customer_id": .text(customerID.string),
      "plan": .text(plan),
      "features": .array(features.map { .text($0) }),
      "domains": .array(domains.map { .text($0) }),
      "limits": .object(limits.map { ($0.meter.string, .integer($0.quantity)) }),
      "seats": .optional(seats), "status": .text(status),
      "issued_at": .text(issuedAt.description), "expires_at": .text(expiresAt.description),
      "billing_anchor_day": .optional(billingAnchorDay),
      "trial": trial.map { .boolean($0) } ?? .null, "overage_policy": .optional(overagePolicy),
      "alert_thresholds": alertThresholds.map { .array($0.map { .integer($0) }) } ?? .null,
    ]
  }

  private static let names: Set<Identifier> = [
    "license_id", "customer_id", "plan", "features", "domains", "limits", "status", "issued_at",
    "expires_at", "billing_anchor_day", "trial", "overage_policy", "alert_thresholds",
  ]

  init(_ line: [UInt8]) throws {
    let value: JSONValue
    do { value = try JSONReader.parse(line) } catch { throw Invalid("not JSON: \(error)") }
    guard case .object(let members) = value else { throw Invalid("not a JSON object") }
    let fields = LicenseFields(members)

    licenseID = Identifier(try fields.text("license_id", maximumBytes: 512))
    customerID = Identifier(try fields.text("customer_id", maximumBytes: 256))
    plan = try fields.text("plan", maximumBytes: 256)
    features = try fields.texts("features", maximumBytes: 256)
    domains = try Self.domains(try fields.texts("domains", maximumBytes: 256))
    (limits, seats) = try Self.limits(fields)
    status = try fields.choice("status", ["active", "suspended", "canceled"])
    issuedAt = try fields.moment("issued_at")
    expiresAt = try fields.moment("expires_at")
    guard issuedAt < expiresAt else { throw Invalid("expires_at: must be later than issued_at") }
    billingAnchorDay = try fields.ifPresent("billing_anchor_day") {
      try fields.integer($0, 1...31)
    }
    trial = try fields.ifPresent("trial") { try fields.boolean($0) }
    overagePolicy = try fields.ifPresent("overage_policy") {
      try fields.choice($0, ["block", "allow"])
    }
    alertThresholds = try fields.ifPresent("alert_thresholds") {
      Set(try fields.integers($0, 1...1_000)).sorted()
    }
    for member in members {
      let name = Identifier(String(decoding: member.name.bytes, as: UTF8.self))
      if !Self.names.contains(name) { unknown.append(name) }
    }
  }

  /// `apiCalls` is meter `api_calls`, `seats` no meter but the license's own, others are meters as they stand.
  private static func limits(_ fields: LicenseFields) throws -> ([Limit], Int64?) {
    guard case .object(let members)? = fields.members["limits"] else {
      throw Invalid("limits: must be an object, such as {\"apiCalls\":50000,\"seats\":10}")
    }
    guard members.count <= maximumItems else { throw Invalid("limits: more than \(maximumItems)") }
    let own = LicenseFields(members)
    var limits: [Identifier: Int64] = [:]
    var seats: Int64?
    var seen: Set<Identifier> = []
    for member in members {
      let name = String(decoding: member.name.bytes, as: UTF8.self)
      let meter = Identifier(meter(name))
      guard seen.insert(meter).inserted else { throw Invalid("limits.\(meter): stands twice") }
      // Null is no limit, as if it were not there.
      guard member.value != .null else { continue }
      if name == "seats" {
        seats = try own.integer(name, 0...Int64(Int32.max), in: "limits.")
        continue
      }
      guard MeterName.isValid(meter.string) else {
        throw Invalid("limits: a meter must match [a-z][a-z0-9_]{0,63} (or be apiCalls, seats)")
      }
      limits[meter] = try own.integer(name, 0...1_000_000_000_000_000_000, in: "limits.")
    }
    return (limits.keys.sorted().map { Limit(meter: $0, quantity: limits[$0]!) }, seats)
  }

  /// The meter of a limit, by the limit's name.
  static func meter(_ name: String) -> String { name == "apiCalls" ? "api_calls" : name }

  private static func domains(_ texts: [String]) throws -> [String] {
    guard let rules = PublicSuffixList.shared else {
      throw Failure("libpsl has no Public Suffix List: apt-get install publicsuffix")
    }
    var result: [String] = []
    var seen: Set<Identifier> = []
    for text in texts {
      let domain: String
      do {
        domain = try BoundDomains.normalized(text, rules: rules)
      } catch {
        throw Invalid("domains: \(error)")
      }
      if seen.insert(Identifier(domain)).inserted { result.append(domain) }
    }
    return result
  }
}

/// The members of a line, read by name and type.
private struct LicenseFields {
  typealias Invalid = LicenseLine.Invalid
  let members: [JSONMember]

  init(_ members: [JSONMember]) { self.members = members }

  /// nil where the member is absent or null.
  func ifPresent<T>(_ name: String, _ read: (String) throws -> T) rethrows -> T? {
    guard let value = members[name], value != .null else { return nil }
    return try read(name)
  }

  func text(_ name: String, maximumBytes: Int) throws -> String {
    guard let value = members[name] else { throw Invalid("\(name): is missing") }
    return try text(value, name, maximumBytes)
  }

  private func text(_ value: JSONValue, _ name: String, _ maximumBytes: Int) throws -> String {
    guard case .string(let string) = value, !string.hasLoneSurrogate,
      (1...maximumBytes).contains(string.bytes.count),
      string.bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else {
      throw Invalid(
        "\(name): must be a text of 1 to \(maximumBytes) bytes without control characters")
    }
    return String(decoding: string.bytes, as: UTF8.self)
  }

  func texts(_ name: String, maximumBytes: Int) throws -> [String] {
    try array(name).map { try text($0, name, maximumBytes) }
  }

  private func array(_ name: String) throws -> [JSONValue] {
    guard let value = members[name] else { throw Invalid("\(name): is missing") }
    guard case .array(let items) = value else { throw Invalid("\(name): must be an array") }
    guard items.count <= LicenseLine.maximumItems else {
      throw Invalid("\(name): more than \(LicenseLine.maximumItems)")
    }
    return items
  }

  func choice(_ name: String, _ known: [String]) throws -> String {
    guard case .string(let string)? = members[name],
      let value = known.first(where: { string.equals($0) })
    else { throw Invalid("\(name): must be one of \(known.joined(separator: ", "))") }
    return value
  }

  func moment(_ name: String) throws -> Moment {
    guard case .string(let string)? = members[name],
      let milliseconds = millisecondsFromRFC3339(string.bytes)
    else { throw Invalid("\(name): must be a time by RFC 3339, such as 2026-11-23T18:40:00Z") }
    return Moment(milliseconds: milliseconds)
  }

  func boolean(_ name: String) throws -> Bool {
    guard case .bool(let value)? = members[name] else {
      throw Invalid("\(name): must be true or false")
    }
    return value
  }

  func integer(_ name: String, _ range: ClosedRange<Int64>, in parent: String = "") throws -> Int64
  {
    guard let value = members[name].flatMap(Self.integer), range.contains(value) else {
      throw Invalid(
        "\(parent)\(name): must be an integer from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  func integers(_ name: String, _ range: ClosedRange<Int64>) throws -> [Int64] {
    try array(name).map {
      guard let value = Self.integer($0), range.contains(value) else {
        throw Invalid(
          "\(name): must hold integers from \(range.lowerBound) to \(range.upperBound)")
      }
      return value
    }
  }

  /// Digits alone: `1.0` and `1e2` are no integers here, as in the events.
  private static func integer(_ value: JSONValue) -> Int64? {
    guard case .number(let digits) = value else { return nil }
    return Int64(digits)
  }
}
