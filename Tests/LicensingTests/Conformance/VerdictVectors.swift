import DomainNames
import JSONText
import Metering

@testable import Licensing

/// Signed answers of the service, and whether a client may believe them: `verdicts.json`.
enum VerdictVectors {
  static let now: Int64 = 1_764_009_600_123
  static let nonce = "0123456789abcdef0123456789abcdef"
  static let licenseKey = "lic_abc123"

  struct Case {
    var name: String
    var token: String
    var domain = "example.com"
    var nonce = VerdictVectors.nonce
    var licenseKey = VerdictVectors.licenseKey
    var now = VerdictVectors.now
  }

  static func payload(
    domain: String? = "example.com", nonce: String = nonce, licenseKey: String = licenseKey,
    timestamp: String = UTCTime.text(now)
  ) -> String {
    let domain = domain.map { "\"\($0)\"" } ?? "null"
    return #"{"valid":true,"code":"valid","licenseId":"lic_abc123","plan":"professional","#
      + #""features":["analytics"],"limits":{"apiCalls":50000},"#
      + #""expiresAt":"2026-11-24T18:40:00.000Z","grace":false,"overLimit":false,"#
      + #""domain":\#(domain),"licenseKeyHash":"\#(VerdictQuestion.hash(ofLicenseKey: licenseKey))","#
      + #""nonce":"\#(nonce)","timestamp":"\#(timestamp)"}"#
  }

  static let header = #"{"alg":"EdDSA","kid":"v-1","typ":"verdict+jwt"}"#

  static func token(
    _ payload: String, header: String = header, by signer: VectorKeys.Signer = VectorKeys.verdict
  ) -> String {
    LicenseVectors.token(header, payload, by: signer)
  }

  static var cases: [Case] {
    let good = token(payload())
    let es = #"{"alg":"ES256","kid":"v-ec","typ":"verdict+jwt"}"#
    return [
      Case(name: "the answer to the question", token: good),
      Case(name: "ES256", token: token(payload(), header: es, by: VectorKeys.verdictEC)),
      Case(
        name: "an older key",
        token: token(
          payload(), header: #"{"alg":"EdDSA","kid":"v-0","typ":"verdict+jwt"}"#,
          by: VectorKeys.otherVerdict)),
      Case(name: "asked with port and capitals", token: good, domain: "Example.COM.:443"),
      Case(name: "another nonce", token: good, nonce: "fedcba9876543210fedcba9876543210"),
      Case(name: "a longer nonce", token: good, nonce: nonce + "0"),
      Case(name: "another license key", token: good, licenseKey: "lic_other"),
      Case(name: "another domain", token: good, domain: "www.example.com"),
      Case(name: "no domain for a domain", token: token(payload(domain: nil))),
      Case(name: "a domain for what is none", token: good, domain: "a b"),
      Case(name: "null for what is no domain", token: token(payload(domain: nil)), domain: "a b"),
      Case(
        name: "an IPv6 address", token: token(payload(domain: "2001:db8:0:0:0:0:0:1")),
        domain: "[2001:db8::1]:443"),
    ] + times + forms
  }

  private static var times: [Case] {
    let good = token(payload())
    return [
      Case(name: "5 minutes old", token: good, now: now + 300_000),
      Case(name: "older than 5 minutes", token: good, now: now + 300_001),
      Case(name: "5 minutes ahead", token: good, now: now - 300_000),
      Case(name: "further ahead than 5 minutes", token: good, now: now - 300_001),
      Case(name: "no such date", token: token(payload(timestamp: "2025-02-30T18:40:00.123Z"))),
      Case(
        name: "a time of another zone",
        token: token(payload(timestamp: "2025-11-24T19:40:00+01:00"))),
      Case(name: "a timestamp that is none", token: token(payload(timestamp: "now"))),
    ]
  }

  private static var forms: [Case] {
    let good = payload()
    let repeated = good.replacing(#""valid":true"#, with: #""valid":false,"valid":true"#)
    return [
      Case(
        name: "typ of a license",
        token: token(good, header: #"{"alg":"EdDSA","kid":"v-1","typ":"license+jwt"}"#)),
      Case(name: "no typ", token: token(good, header: #"{"alg":"EdDSA","kid":"v-1"}"#)),
      Case(
        name: "typ JWT", token: token(good, header: #"{"alg":"EdDSA","kid":"v-1","typ":"JWT"}"#)),
      Case(
        name: "crit",
        token: token(good, header: #"{"alg":"EdDSA","kid":"v-1","typ":"verdict+jwt","crit":["x"]}"#)
      ),
      Case(
        name: "HS256",
        token: token(good, header: #"{"alg":"HS256","kid":"v-1","typ":"verdict+jwt"}"#)),
      Case(
        name: "a key of licenses",
        token: token(
          good, header: #"{"alg":"EdDSA","kid":"ed-1","typ":"verdict+jwt"}"#, by: VectorKeys.edDSA)),
      Case(name: "a stranger's key", token: token(good, by: VectorKeys.stranger)),
      Case(name: "a member that stands twice", token: token(repeated)),
      Case(name: "no nonce", token: token(good.replacing(#""nonce":"\#(nonce)","#, with: ""))),
      Case(
        name: "a number for the nonce", token: token(good.replacing(#""\#(nonce)""#, with: "5"))),
      Case(name: "no hash", token: token(good.replacing("licenseKeyHash", with: "hash"))),
      Case(name: "no timestamp", token: token(good.replacing("timestamp", with: "time"))),
      Case(name: "no object", token: token("[]")), Case(name: "not signed", token: ""),
      Case(name: "a license", token: LicenseVectors.good),
      Case(name: "a cut answer", token: String(token(good).dropLast(10))),
    ]
  }

  static func write(to file: inout VectorFile) {
    for vector in cases {
      file.add(vector.name) { json in
        json.member("token", vector.token)
        json.member("licenseKey", vector.licenseKey)
        json.member("domain", vector.domain)
        json.member("nonce", vector.nonce)
        json.member("now", vector.now)
        if let refusal = refusal(vector) { json.member("refusal", refusal) }
      }
    }
  }

  private static func refusal(_ vector: Case) -> String? {
    let question = VerdictQuestion(
      licenseKey: vector.licenseKey, domain: DomainName(vector.domain, rules: DomainTests.rules),
      nonce: vector.nonce)
    do throws(VerdictVerifier.Refusal) {
      _ = try VerdictVerifier(keys: VectorKeys.keys("all")).verify(
        signature: vector.token, question: question, now: vector.now)
      return nil
    } catch {
      switch error {
      case .token(let refusal): return refusal.code
      case .otherNonce: return "other_nonce"
      case .otherQuestion: return "other_question"
      case .stale: return "stale"
      }
    }
  }
}
