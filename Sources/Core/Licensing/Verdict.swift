import Metering

/// Whether a license is valid, and if not, why.
public struct Verdict: Sendable, Equatable {
  /// The verdicts, in the order in which they are judged. The first one that applies is given.
  public enum Code: String, Sendable, CaseIterable {
    case invalidSignature = "invalid_signature"
    case notFound = "not_found"
    case canceled
    case suspended
    case notYetValid = "not_yet_valid"
    case expired
    case domainMismatch = "domain_mismatch"
    case limitExceeded = "limit_exceeded"
    case grace
    case valid
  }

  /// The seven days in which an expired license is still valid, with the code `grace`. A trial has
  /// no grace.
  public static let graceMilliseconds: Int64 = SchemaContract.graceDays * 86_400_000

  /// See `Code`.
  public var code: Code
  /// Whether usage is beyond a limit. The license may still be valid (`OveragePolicy.allow`).
  public var isOverLimit: Bool
  /// The rule that a license key breaks if it is not accepted (`invalidSignature`).
  public var refusal: TokenRefusal?

  /// A verdict that needs no terms, such as `notFound`.
  public init(_ code: Code, isOverLimit: Bool = false) {
    self.code = code
    self.isOverLimit = isOverLimit
  }

  /// The verdict on a license key that is not accepted.
  public init(refused refusal: TokenRefusal) {
    self.init(.invalidSignature)
    self.refusal = refusal
  }

  /// Whether the application may run.
  public var isValid: Bool { code == .valid || code == .grace }

  /// One sentence for the developer who reads the answer. Nil if the license is valid.
  public var explanation: String? {
    switch code {
    case .invalidSignature:
      "The license key is not accepted: "
        + (refusal?.description ?? "it was not signed by its vendor, or was changed since")
        + "."
    case .notFound: "There is no such license."
    case .canceled: "The license was canceled."
    case .suspended: "The license is suspended."
    case .notYetValid: "The license is not valid yet."
    case .expired: "The license has expired."
    case .domainMismatch: "The license is not valid for this domain."
    case .limitExceeded: "The license's limit for this period is used up."
    case .grace, .valid: nil
    }
  }

  /// Judges a known license.
  ///
  /// - Parameters:
  ///   - domain: nil stands for a text that is not a domain name. No license is valid for it.
  ///   - now: the time in milliseconds since 1970.
  ///   - isOverLimit: whether its usage of this period has reached a limit.
  public static func judge(
    _ terms: LicenseTerms, domain: DomainName?, now: Int64, isOverLimit: Bool
  ) -> Verdict {
    Verdict(
      code(terms, domain: domain, now: now, isOverLimit: isOverLimit), isOverLimit: isOverLimit)
  }

  private static func code(
    _ terms: LicenseTerms, domain: DomainName?, now: Int64, isOverLimit: Bool
  ) -> Code {
    switch terms.status {
    case .canceled: return .canceled
    case .suspended: return .suspended
    case .active: break
    }
    if let from = terms.validFrom, now < from { return .notYetValid }
    let isExpired = now >= terms.expiresAt
    let (graceEnd, overflow) = terms.expiresAt.addingReportingOverflow(graceMilliseconds)
    if isExpired, terms.isTrial || (!overflow && now >= graceEnd) { return .expired }
    guard let domain, !domain.isLocal, terms.domains.covers(domain) else { return .domainMismatch }
    if isOverLimit, terms.overagePolicy == .block { return .limitExceeded }
    return isExpired ? .grace : .valid
  }
}
