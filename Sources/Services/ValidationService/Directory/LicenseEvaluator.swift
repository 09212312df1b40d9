import Crypto
import DomainNames
import Foundation
import Licensing
import Metering
import Synchronization

/// Gives the verdict about a license key and a domain, from what the directory knows.
final class LicenseEvaluator: Sendable {
  /// The result for one key.
  struct Finding: Sendable {
    var verdict: Verdict
    var terms: LicenseTerms?
    var licenseID: Identifier?
    /// The requested domain, in the spelling that is compared. It is nil if it is neither a name
    /// nor an address.
    var domain: DomainName?
    /// The customer who has the license. It is nil if the license is not registered, or if that is
    /// not known.
    var customerID: Identifier?
    /// The database could not be asked who has the license.
    var isOwnerUnknown = false
    /// The caller has the license itself, with a valid signature, and not only its id.
    var isSigned = false
  }

  private let directory: LicenseDirectory
  private let verifier: LicenseVerifier
  private let rules: PublicSuffixList
  /// Tokens that were verified, by their SHA-256.
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
  ///   - meter: the meter that is used. The limit of `api_calls` counts as well.
  ///   - customer: the caller's customer, who sees no other licenses. Nil sees all licenses.
  ///   - record: returns what is known about a license id. Its errors are rethrown.
  /// - Throws: `Problem` with status 503, if the license is not in memory and PostgreSQL does not
  ///   answer.
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
    // A later registration overrides what was signed. If it cannot be read now, the signature is
    // enough.
    switch try record(id) {
    case .found(let license):
      var finding = Finding(verdict: Verdict(.notFound), licenseID: id, domain: domain)
      if customer == nil || license.customerID == customer {
        finding = find(license.terms, domain, meter, now)
      }
      finding.customerID = license.customerID
      finding.isSigned = claims != nil
      return finding
    case .missing:
      if let claims, customer == nil {
        var finding = find(claims, domain, meter, now)
        finding.isSigned = true
        return finding
      }
      return Finding(verdict: Verdict(.notFound), licenseID: id, domain: domain)
    case .unavailable:
      guard let claims else {
        throw Problem.unavailable(
          "The license is not in memory, and the database does not answer. Try again.")
      }
      var finding = find(claims, domain, meter, now)
      finding.isOwnerUnknown = true
      finding.isSigned = true
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

  /// Whether a key looks like a compact JWS. That begins with the base64url of `{`, which no
  /// license id of ours does. Anything longer than an id can only be a token.
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
