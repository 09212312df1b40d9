public import Metering

/// The terms by which a license is judged, whether it was registered or only signed.
public struct LicenseTerms: Sendable {
  /// The status that an operator gave the license.
  public enum Status: String, Sendable, CaseIterable {
    case active
    case suspended
    case canceled
  }

  /// What happens beyond a limit.
  public enum OveragePolicy: String, Sendable, CaseIterable {
    /// Beyond a limit the license is not valid.
    case block
    /// The license stays valid, and usage beyond the limit is billed.
    case allow
  }

  /// `sub` of its token.
  public var licenseID: Identifier
  /// The product that was bought, in the vendor's words.
  public var plan: String
  /// The features that the license unlocks, in the vendor's words.
  public var features: [String]
  /// The limits by name: `apiCalls`, `seats`, or a meter.
  public var limits: [LicenseClaims.Limit]
  /// The domains for which the license is valid.
  public var domains: BoundDomains
  /// The first time at which it is valid, in milliseconds since 1970.
  public var validFrom: Int64?
  /// The first time at which it is no longer valid, in milliseconds since 1970.
  public var expiresAt: Int64
  /// A trial has no grace.
  public var isTrial: Bool
  /// See `Status`.
  public var status: Status
  /// See `OveragePolicy`.
  public var overagePolicy: OveragePolicy

  /// Makes the terms of a registered license.
  public init(
    licenseID: Identifier, plan: String, features: [String], limits: [LicenseClaims.Limit],
    domains: BoundDomains, validFrom: Int64?, expiresAt: Int64, isTrial: Bool,
    status: Status = .active, overagePolicy: OveragePolicy = .block
  ) {
    self.licenseID = licenseID
    self.plan = plan
    self.features = features
    self.limits = limits
    self.domains = domains
    self.validFrom = validFrom
    self.expiresAt = expiresAt
    self.isTrial = isTrial
    self.status = status
    self.overagePolicy = overagePolicy
  }

  /// Makes the terms of a license that nobody registered from its verified token. The license is
  /// active, and is blocked beyond its limits.
  public init(_ claims: LicenseClaims, rules: some DomainNameRules) {
    self.init(
      licenseID: claims.licenseID, plan: claims.plan, features: claims.features,
      limits: claims.limits, domains: BoundDomains(claims.domains, rules: rules),
      validFrom: claims.notBefore, expiresAt: claims.expiresAt, isTrial: claims.isTrial)
  }
}
