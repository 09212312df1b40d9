import DomainNames
import JSONText

@testable import Licensing

/// The verdict on a license without the service, by time and domain: `offline.json`.
enum TimeVectors {
  private static let start: Int64 = 1_711_929_600
  private static let end: Int64 = 1_743_465_600
  private static let grace = Verdict.graceMilliseconds

  static func write(to file: inout VectorFile) {
    let plain = LicenseVectors.good
    let later = token(#","nbf":1711930000.5"#)
    let trial = token(#","trial":true"#)
    let fraction = token("", expires: "1743465600.25")
    let forever = token("", expires: "253402300799.999")
    for (name, token, domain, now) in [
      ("valid", plain, "example.com", start * 1_000),
      ("another domain", plain, "example.org", start * 1_000),
      ("no domain", plain, "a b", start * 1_000), ("localhost", plain, "localhost", start * 1_000),
      ("a subdomain", plain, "www.example.com", start * 1_000),
      ("before iat", plain, "example.com", start * 1_000 - 1),
      ("the last millisecond", plain, "example.com", end * 1_000 - 1),
      ("grace begins", plain, "example.com", end * 1_000),
      ("grace, another domain", plain, "example.org", end * 1_000),
      ("grace ends", plain, "example.com", end * 1_000 + grace - 1),
      ("expired", plain, "example.com", end * 1_000 + grace),
      ("expired, another domain", plain, "example.org", end * 1_000 + grace),
      ("not yet", later, "example.com", 1_711_930_000_499),
      ("not yet, another domain", later, "example.org", 1_711_930_000_499),
      ("from nbf on", later, "example.com", 1_711_930_000_500),
      ("trial", trial, "example.com", end * 1_000 - 1),
      ("a trial has no grace", trial, "example.com", end * 1_000),
      ("before a fraction", fraction, "example.com", end * 1_000 + 249),
      ("at a fraction", fraction, "example.com", end * 1_000 + 250),
      ("grace beyond the year 9999", forever, "example.com", 253_402_300_799_999),
      ("a license that is not believed", plain + "A", "example.com", start * 1_000),
      ("not signed", "lic_abc123", "example.com", start * 1_000),
    ] as [(String, String, String, Int64)] {
      file.add(name) { json in
        json.member("token", token)
        json.member("domain", domain)
        json.member("now", now)
        let verdict = verdict(token, domain, now)
        json.member("code", verdict.code.rawValue)
        json.member("valid", verdict.isValid)
      }
    }
  }

  private static func token(_ members: String, expires: String = "1743465600") -> String {
    LicenseVectors.token(
      LicenseVectors.header,
      #"{"sub":"lic_abc123","domain":"example.com","plan":"professional","features":["analytics"],"#
        + #""iat":1711929600,"exp":\#(expires)\#(members)}"#)
  }

  private static func verdict(_ token: String, _ domain: String, _ now: Int64) -> Verdict {
    do throws(TokenRefusal) {
      let claims = try LicenseVerifier(keys: VectorKeys.keys("all")).verify(token)
      return Verdict.judge(
        LicenseTerms(claims, rules: DomainTests.rules),
        domain: DomainName(domain, rules: DomainTests.rules), now: now, isOverLimit: false)
    } catch {
      return Verdict(refused: error)
    }
  }
}
