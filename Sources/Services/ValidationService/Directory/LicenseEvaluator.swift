import Crypto
import DomainNames
import Foundation
import Licensing
import Metering
import Synchronization

/// A license key and a domain into a verdict, by what the directory knows.
final class LicenseEvaluator: Sendable {
  /// What is said of a key.
  struct Finding: Sendable {
    var verdict: Verdict
    var terms: LicenseTerms?
    var licenseID: Identifier?
    /// What was asked for, in the spelling that is compared; nil, where it is no name or address.
    var domain: DomainName?
    /// Whose the license is; nil where it is registered nowhere, or that is not known.
    var customerID: Identifier?
    /// The database could not be asked whose the license is.
    var isOwnerUnknown = false
  }

  private let directory: LicenseDirectory
  private let verifier: LicenseVerifier
  private let rules: PublicSuffixList
  /// Tokens that verified, by their SHA-256.
  private let verified: Mutex<BoundedCache<SHA256.Digest, LicenseTerms>>

  init(
    directory: LicenseDirectory, verifier: LicenseVerifier, rules: PublicSuffixList, capacity: Int
  ) {
    self.directory = directory
    self.verifier = verifier
    self.rules = rules
    verified = Mutex(BoundedCache(capacity: capacity))
  }

  /// - Parameters:
  ///   - meter: what is used; with `api_calls`, whose limit always counts.
  ///   - customer: whose licenses alone there are to who asks; nil: everybody's.
  ///   - record: what is known of a license by its id; what it throws is thrown on.
  /// - Throws: `Problem`, 503, where the license is not known here and PostgreSQL does not answer.
  func evaluate(
    licenseKey: String, domain text: String, meter: Identifier, customer: Identifier?, now: Int64,
    record: (Identifier) throws -> LicenseDirectory.Licenses.Lookup
  ) throws -> Finding {
    let domain = DomainName(text, rules: rules)
    var claims: LicenseTerms?
    if Self.looksLikeToken(licenseKey) {
      do throws(TokenRefusal) {
        claims = try claimed(licenseKey)
      } catch {
        return Finding(verdict: Verdict(refused: error), domain: domain)
      }
    }
    let id = claims?.licenseID ?? Identifier(licenseKey)
    // What was registered since, beats what was signed; of what cannot be asked now, the signature
    // is enough.
    switch try record(id) {
    case .found(let license):
      var finding = Finding(verdict: Verdict(.notFound), licenseID: id, domain: domain)
      if customer == nil || license.customerID == customer {
        finding = find(license.terms, domain, meter, now)
      }
      finding.customerID = license.customerID
      return finding
    case .missing:
      if let claims, customer == nil { return find(claims, domain, meter, now) }
      return Finding(verdict: Verdict(.notFound), licenseID: id, domain: domain)
    case .unavailable:
      guard let claims else {
        throw Problem.unavailable(
          "The license is not in memory, and the database does not answer; try again.")
      }
      var finding = find(claims, domain, meter, now)
      finding.isOwnerUnknown = true
      return finding
    }
  }

  private func find(
    _ terms: LicenseTerms, _ domain: DomainName?, _ meter: Identifier, _ now: Int64
  ) -> Finding {
    let isOver =
      directory.isOverLimit(terms.licenseID, "api_calls", now: now)
      || (meter != "api_calls" && directory.isOverLimit(terms.licenseID, meter, now: now))
    return Finding(
      verdict: Verdict.judge(terms, domain: domain, now: now, isOverLimit: isOver), terms: terms,
      licenseID: terms.licenseID, domain: domain)
  }

  private func claimed(_ token: String) throws(TokenRefusal) -> LicenseTerms {
    var token = token
    let digest = token.withUTF8 { SHA256.hash(data: $0) }
    if let known = verified.withLock({ $0.value(digest) }) { return known }
    let terms = LicenseTerms(try verifier.verify(token), rules: rules)
    verified.withLock { $0.set(digest, terms) }
    return terms
  }

  /// A compact JWS begins with the base64url of `{`, which no license id of ours looks like; what
  /// is longer than an id may be is none either.
  private static func looksLikeToken(_ key: String) -> Bool {
    if key.utf8.count > 512 { return true }
    let bytes = key.utf8.prefix(2)
    guard bytes.first == UInt8(ascii: "e"), let second = bytes.last, key.utf8.contains(0x2E) else {
      return false
    }
    return (UInt8(ascii: "w")...UInt8(ascii: "z")).contains(second)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(second) || second == UInt8(ascii: "-")
      || second == UInt8(ascii: "_")
  }
}
