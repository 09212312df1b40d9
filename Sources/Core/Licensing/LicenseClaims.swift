import JSONText
public import Metering

/// The claims of a license's JWT. Times are milliseconds since 1970. In the token they are
/// NumericDates (RFC 7519), which are seconds that may have a fraction. Parts of a millisecond are
/// cut off.
public struct LicenseClaims: Sendable {
  /// `sub`, 1 to 512 bytes.
  public var licenseID: Identifier
  /// `domain` and `domains` together, as the token has them.
  public var domains: [String]
  /// `plan`, or empty if the token has none.
  public var plan: String
  /// `features`, at most 100.
  public var features: [String]
  /// `limits`, in the order of their names: `apiCalls`, `seats`, meters.
  public var limits: [Limit]
  /// `iat`.
  public var issuedAt: Int64
  /// `exp`, later than `iat`.
  public var expiresAt: Int64
  /// `nbf`.
  public var notBefore: Int64?
  /// `trial`.
  public var isTrial: Bool

  /// How much of something the license grants.
  public struct Limit: Sendable {
    /// The name that the token and the answers write: `apiCalls`, `seats`, or a meter.
    public var name: String
    /// The quantity, which is not negative.
    public var quantity: Int64

    /// A limit by its name.
    public init(name: String, quantity: Int64) {
      self.name = name
      self.quantity = quantity
    }
  }

  /// Converts the limits of meters to limits as tokens and answers name them. `api_calls` is
  /// `apiCalls` there.
  package static func limits(
    ofMeters meters: [(meter: Identifier, quantity: Int64)], seats: Int64?
  ) -> [Limit] {
    let limits = meters.map {
      Limit(name: $0.meter == "api_calls" ? "apiCalls" : $0.meter.string, quantity: $0.quantity)
    }
    return (limits + (seats.map { [Limit(name: "seats", quantity: $0)] } ?? []))
      .sorted { Identifier($0.name) < Identifier($1.name) }
  }

  /// Claims to be signed.
  public init(
    licenseID: Identifier, domains: [String], plan: String, features: [String] = [],
    limits: [Limit] = [], issuedAt: Int64, expiresAt: Int64, notBefore: Int64? = nil,
    isTrial: Bool = false
  ) {
    self.licenseID = licenseID
    self.domains = domains
    self.plan = plan
    self.features = features
    self.limits = limits.sorted { Identifier($0.name) < Identifier($1.name) }
    self.issuedAt = issuedAt
    self.expiresAt = expiresAt
    self.notBefore = notBefore
    self.isTrial = isTrial
  }

  private static let maximumItems = 100
  /// The end of the year 9999. RFC 3339 has no later times.
  private static let maximumMilliseconds: Int64 = 253_402_300_799_999

  /// - Throws: `badClaims` with the member that is missing, has another type, is out of bounds, or
  ///   occurs twice.
  init(payload: [UInt8]) throws(TokenRefusal) {
    // The kind of error does not matter, because the text contains no claims.
    guard let members = (try? JSONReader.parse(payload))?.members else {
      throw .badClaims(.document)
    }
    guard members.repeatedName == nil else { throw .badClaims(.repeated) }
    guard let licenseID = Self.text(members["sub"], 512).map(Identifier.init(_:)) else {
      throw .badClaims(.subject)
    }
    let plan = try Self.read(.plan, members) { Self.text($0, 256) }
    let features = try Self.read(.features, members, Self.texts)
    let single = try Self.read(.domain, members) { Self.text($0, 256) }
    let several = try Self.read(.domains, members, Self.texts)
    let limits = try Self.read(.limits, members, Self.limits)
    let isTrial = try Self.read(.trial, members, \.boolean)
    let notBefore = try Self.read(.notBefore, members, Self.time)
    guard let issuedAt = try Self.read(.issuedAt, members, Self.time) else {
      throw .badClaims(.issuedAt)
    }
    guard let expiresAt = try Self.read(.expiresAt, members, Self.time), issuedAt < expiresAt
    else { throw .badClaims(.expiresAt) }
    self.init(
      licenseID: licenseID, domains: Self.distinct((single.map { [$0] } ?? []) + (several ?? [])),
      plan: plan ?? "", features: features ?? [], limits: limits ?? [], issuedAt: issuedAt,
      expiresAt: expiresAt, notBefore: notBefore, isTrial: isTrial ?? false)
  }

  /// Reads a claim, or returns nil if it is absent.
  private static func read<T>(
    _ claim: TokenRefusal.Claim, _ members: [JSONMember], _ read: (JSONValue) -> T?
  ) throws(TokenRefusal) -> T? {
    guard let value = members[claim.rawValue] else { return nil }
    guard let value = read(value) else { throw .badClaims(claim) }
    return value
  }

  /// The texts in order without repetitions, compared by their bytes.
  private static func distinct(_ texts: [String]) -> [String] {
    var known: Set<Identifier> = []
    return texts.filter { known.insert(Identifier($0)).inserted }
  }

  /// The claims as the token carries them. One domain alone stays a string.
  var payload: [UInt8] {
    var json = JSONWriter()
    json.beginObject()
    json.member("sub", licenseID.string)
    if domains.count == 1 {
      json.member("domain", domains[0])
    } else if !domains.isEmpty {
      json.member("domains", domains)
    }
    json.member("plan", plan)
    json.member("features", features)
    json.name("limits")
    Self.write(limits, to: &json)
    if isTrial { json.member("trial", true) }
    if let notBefore { json.member("nbf", notBefore / 1_000) }
    json.member("iat", issuedAt / 1_000)
    json.member("exp", expiresAt / 1_000)
    json.endObject()
    return json.bytes
  }

  static func write(_ limits: [Limit], to json: inout JSONWriter) {
    json.beginObject()
    for limit in limits { json.member(limit.name, limit.quantity) }
    json.endObject()
  }

  private static func text(_ value: JSONValue?, _ maximumBytes: Int) -> String? {
    guard let text = value?.text, (1...maximumBytes).contains(text.utf8.count),
      text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else { return nil }
    return text
  }

  private static func texts(_ value: JSONValue) -> [String]? {
    guard let elements = value.elements, elements.count <= maximumItems else { return nil }
    let texts = elements.compactMap { text($0, 256) }
    return texts.count == elements.count ? texts : nil
  }

  private static func limits(_ value: JSONValue) -> [Limit]? {
    guard let members = value.members, members.count <= maximumItems,
      members.repeatedName == nil
    else { return nil }
    var limits: [Limit] = []
    for member in members where member.value != .null {
      guard let name = text(.string(member.name), 64), let quantity = member.value.number?.integer,
        quantity >= 0
      else { return nil }
      limits.append(Limit(name: name, quantity: quantity))
    }
    return limits
  }

  private static func time(_ value: JSONValue) -> Int64? {
    guard let milliseconds = value.number?.roundedDown(decimals: 3),
      (0...maximumMilliseconds).contains(milliseconds)
    else { return nil }
    return milliseconds
  }
}

extension LicenseClaims: Equatable {
  /// Compares all texts by their bytes (see `Identifier`).
  public static func == (left: LicenseClaims, right: LicenseClaims) -> Bool {
    left.texts == right.texts && left.limits == right.limits && left.issuedAt == right.issuedAt
      && left.expiresAt == right.expiresAt && left.notBefore == right.notBefore
      && left.isTrial == right.isTrial
  }

  private var texts: [[Identifier]] {
    [
      [licenseID, Identifier(plan)], domains.map(Identifier.init(_:)),
      features.map(Identifier.init(_:)),
    ]
  }
}

extension LicenseClaims.Limit: Equatable {
  /// Compares the name by its bytes (see `Identifier`).
  public static func == (left: LicenseClaims.Limit, right: LicenseClaims.Limit) -> Bool {
    Identifier(left.name) == Identifier(right.name) && left.quantity == right.quantity
  }
}
