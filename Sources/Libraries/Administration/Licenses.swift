package import JSONText
package import Licensing
import Metering
package import PostgresStore
import ServiceRuntime

/// Makes, changes, suspends and issues licenses.
extension Administrator {
  private var licenses: LicenseReads { LicenseReads(connection) }

  /// Registers a license.
  ///
  /// - Parameter body: the object of a line of an import. `status` (default: active), `features`,
  ///   `limits` (default: none) and `issued_at` (default: now) may be absent.
  /// - Throws: `AdministrationRefusal` with `bad_request` or `license_exists`, or `PostgresError`.
  package func createLicense(_ body: JSONValue) throws -> LicenseReads.Record {
    let line = try licenseLine(Self.completed(body))
    try checkTenant(line.customerID, "customer")
    return try connection.transaction {
      try LicenseStore(connection).lockForImport()
      if let existing = try licenses.license(line.licenseID.string) {
        try checkTenant(existing.customerID, "license")
        throw AdministrationRefusal(
          .conflict, "license_exists", "there is already a license with this id",
          errors: [.init(parameter: "license_id", detail: "is already in use")])
      }
      try upsert(line)
      return try kept(line.licenseID.string, "license.create", before: nil, status: 201)
    }
  }

  /// Changes a license with a JSON Merge Patch (RFC 7396) of the body of `createLicense`. It may
  /// contain members that cannot be changed (`created_at`, …) with their present values.
  ///
  /// - Parameter isExpected: whether the license is as the caller last saw it. If it returns false,
  ///   the change is refused with `changed_meanwhile`.
  /// - Returns: the license, and whether anything about it changed.
  /// - Throws: `AdministrationRefusal` or `PostgresError`.
  package func updateLicense(
    _ id: String, patch: JSONValue, isExpected: (LicenseReads.Record) -> Bool = { _ in true }
  ) throws -> (license: LicenseReads.Record, isChanged: Bool) {
    try connection.transaction {
      try LicenseStore(connection).lockForImport()
      let before = try locked(id, isExpected)
      guard let stored = try LicenseStore(connection).lockedLine(id: id) else {
        throw AdministrationRefusal.noSuch("license")
      }
      let patch = try Self.patch(patch, of: before)
      // A patch may remove all limits with null.
      let line = try licenseLine(
        Self.withLimits(try JSONReader.parse(Array(stored.utf8)).merged(with: patch)))
      guard line.licenseID == before.licenseID else {
        throw AdministrationRefusal.invalid("license_id", "cannot be changed")
      }
      try checkTenant(line.customerID, "customer")
      if before.status == "canceled", line.status != "canceled" { throw Self.isCanceled }
      let counts = try upsert(line)
      return (try kept(id, "license.update", before: before), counts.changed > 0)
    }
  }

  package enum LicenseStep: String, Sendable, CaseIterable {
    case suspend
    case resume
    case cancel

    var status: String {
      switch self {
      case .suspend: "suspended"
      case .resume: "active"
      case .cancel: "canceled"
      }
    }
  }

  /// Suspends, resumes or cancels a license. A canceled license stays canceled. Repeating a step
  /// changes nothing.
  ///
  /// - Throws: `AdministrationRefusal` with `not_found`, `license_canceled` or `changed_meanwhile`,
  ///   or `PostgresError`.
  package func setLicense(
    _ id: String, _ step: LicenseStep, isExpected: (LicenseReads.Record) -> Bool = { _ in true }
  ) throws -> LicenseReads.Record {
    try connection.transaction {
      let before = try locked(id, isExpected)
      if before.status == "canceled", step != .cancel { throw Self.isCanceled }
      _ = try LicenseStore(connection).setStatus(step.status, id: id)
      return try kept(id, "license.\(step.rawValue)", before: before)
    }
  }

  /// Signs the license's JWT with its present terms.
  ///
  /// - Throws: `AdministrationRefusal` with `not_found`, `no_signing_key` or `license_too_large`,
  ///   or `PostgresError`.
  package func issueLicense(_ id: String, keys: JSONWebKeySet?) throws -> String {
    guard let signer = keys.flatMap({ LicenseSigner(keys: $0) }) else {
      throw AdministrationRefusal(
        .unavailable, "no_signing_key",
        "METER_SIGNING_KEY has no private key for licenses. Make one with: meterctl key generate")
    }
    return try connection.transaction {
      guard let row = try AccessStore(connection).licenses([Identifier(id)]).first else {
        throw AdministrationRefusal.noSuch("license")
      }
      try checkTenant(row.customerID, "license")
      let claims = LicenseClaims(
        licenseID: row.licenseID, domains: row.domains, plan: row.plan, features: row.features,
        limits: LicenseClaims.limits(ofMeters: row.limits, seats: row.seats),
        issuedAt: row.issuedAt, expiresAt: row.expiresAt, isTrial: row.isTrial)
      guard let token = signer.token(claims) else {
        throw AdministrationRefusal(
          .conflict, "license_too_large",
          "the license does not fit into a token of 8 KiB, so remove domains or features")
      }
      try record(
        AuditedChange("license.issue", "license", id, customerID: row.customerID.string))
      return token
    }
  }

  // MARK: -

  private static let isCanceled = AdministrationRefusal(
    .conflict, "license_canceled", "the license is canceled, and that cannot be undone")

  private func locked(
    _ id: String, _ isExpected: (LicenseReads.Record) -> Bool
  ) throws -> LicenseReads.Record {
    guard let license = try licenses.license(id, isLocked: true) else {
      throw AdministrationRefusal.noSuch("license")
    }
    try checkTenant(license.customerID, "license")
    guard isExpected(license) else {
      throw AdministrationRefusal(
        .changedMeanwhile, "changed_meanwhile",
        "the license has changed since it was read, so read it again first")
    }
    return license
  }

  /// Writes the audit row and returns the license as it is now.
  private func kept(
    _ id: String, _ action: String, before: LicenseReads.Record?, status: Int = 200
  ) throws -> LicenseReads.Record {
    guard let after = try licenses.license(id) else {
      throw AdministrationRefusal.noSuch("license")
    }
    try record(
      AuditedChange(
        action, "license", id, customerID: after.customerID.string,
        before: before.map(Self.audited), after: Self.audited(after)), status: status)
    return after
  }

  @discardableResult
  private func upsert(_ line: LicenseLine) throws -> LicenseStore.Counts {
    try LicenseStore(connection).upsert([line])
  }

  private func licenseLine(_ value: JSONValue) throws -> LicenseLine {
    let line: LicenseLine
    do {
      line = try LicenseLine(value, rules: Self.domainRules())
    } catch let invalid as LicenseLine.Invalid {
      throw AdministrationRefusal(invalid)
    }
    if let name = line.unknown.first {
      throw AdministrationRefusal.invalid(
        String(name.string.prefix(100)), "is unknown here. Is it misspelled?")
    }
    return line
  }

  /// Adds the defaults to a new license's body.
  private static func completed(_ body: JSONValue) -> JSONValue {
    guard case .object(var members) = body else { return body }
    for (name, value) in [
      ("status", JSONValue.string(JSONString(bytes: Array("active".utf8)))),
      ("features", .array([])), ("limits", .object([])),
      ("issued_at", .string(JSONString(bytes: Array(UTCTime.text(WallClock.milliseconds).utf8)))),
    ] where members[name] == nil {
      members.append(JSONMember(name: JSONString(bytes: Array(name.utf8)), value: value))
    }
    return .object(members)
  }

  private static func withLimits(_ body: JSONValue) -> JSONValue {
    guard case .object(var members) = body, members["limits"] == nil else { return body }
    members.append(JSONMember(name: JSONString(bytes: Array("limits".utf8)), value: .object([])))
    return .object(members)
  }

  /// The patch in the spelling of the stored line, without members that cannot be changed.
  private static func patch(
    _ patch: JSONValue, of license: LicenseReads.Record
  ) throws -> JSONValue {
    guard case .object(let members) = patch else {
      throw AdministrationRefusal.invalid("", "a merge patch must be a JSON object")
    }
    if let name = members.repeatedName {
      throw AdministrationRefusal.invalid(String(name.prefix(100)), "must be given once")
    }
    let fixed: [(name: String, value: String)] = [
      ("created_at", UTCTime.text(license.createdAt)),
      ("updated_at", UTCTime.text(license.updatedAt)),
      ("billing_anchors", license.billingAnchors),
    ]
    var result: [JSONMember] = []
    for member in members {
      if let own = fixed.first(where: { member.name.equals($0.name) }) {
        guard isSame(member.value, own.value) else {
          throw AdministrationRefusal.invalid(own.name, "cannot be changed")
        }
      } else if member.name.equals("limits"), case .object(let limits) = member.value {
        let limits = limits.map(limit)
        if let name = limits.repeatedName {
          throw AdministrationRefusal.invalid("limits.\(name.prefix(100))", "must be given once")
        }
        result.append(JSONMember(name: member.name, value: .object(limits)))
      } else {
        result.append(member)
      }
    }
    return .object(result)
  }

  /// The meter `api_calls` is `apiCalls` in the stored line.
  private static func limit(_ member: JSONMember) -> JSONMember {
    guard member.name.equals("api_calls") else { return member }
    return JSONMember(name: JSONString(bytes: Array("apiCalls".utf8)), value: member.value)
  }

  private static func isSame(_ value: JSONValue, _ stored: String) -> Bool {
    if let text = value.text {
      // Times may be written without their zeros.
      return text == stored || text == stored.replacing(".000Z", with: "Z")
    }
    guard let other = try? JSONReader.parse(Array(stored.utf8)) else { return false }
    return value == other
  }

  /// What the audit log stores about a license.
  static func audited(_ license: LicenseReads.Record) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    writer.member("customer_id", license.customerID.string)
    writer.member("plan", license.plan)
    writer.name("features")
    writer.raw(license.features)
    writer.name("domains")
    writer.raw(license.domains)
    writer.name("limits")
    writer.raw(license.limits)
    writer.member("status", license.status)
    writer.member("trial", license.isTrial)
    writer.member("overage_policy", license.overagePolicy)
    writer.name("alert_thresholds")
    writer.raw(license.alertThresholds)
    writer.member("billing_anchor_day", license.billingAnchorDay)
    writer.member("issued_at", UTCTime.text(license.issuedAt))
    writer.member("expires_at", UTCTime.text(license.expiresAt))
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
  }
}

extension LicenseStore {
  /// Creates or changes licenses within the caller's transaction. No license may occur twice.
  package func upsert(_ lines: [LicenseLine]) throws(PostgresError) -> Counts {
    var writer = JSONWriter(reserving: 512 * lines.count)
    writer.beginArray()
    for line in lines { line.write(to: &writer) }
    writer.endArray()
    return try upsert(json: String(decoding: writer.bytes, as: UTF8.self))
  }
}
