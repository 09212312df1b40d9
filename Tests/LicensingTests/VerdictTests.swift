import DomainNames
import Licensing
import Metering
import Testing

struct VerdictTests {
  static let rules = PublicSuffixList()!
  static let now: Int64 = 1_764_009_600_000
  static let day: Int64 = 86_400_000

  static func terms(
    status: LicenseTerms.Status = .active, from: Int64? = nil, expires: Int64 = now + day,
    trial: Bool = false, policy: LicenseTerms.OveragePolicy = .block
  ) -> LicenseTerms {
    LicenseTerms(
      licenseID: "lic_1", plan: "p", features: ["a"], limits: [],
      domains: BoundDomains(["example.com"], rules: rules), validFrom: from, expiresAt: expires,
      isTrial: trial, status: status, overagePolicy: policy)
  }

  static func code(
    _ terms: LicenseTerms, _ domain: String = "example.com", isOver: Bool = false
  ) -> Verdict.Code {
    Verdict.judge(
      terms, domain: DomainName(domain, rules: rules)!, now: now, isOverLimit: isOver
    ).code
  }

  @Test("Every code is given, and the one that comes first wins")
  func codes() {
    #expect(Self.code(Self.terms()) == .valid)
    #expect(Self.code(Self.terms(status: .canceled), "evil.com", isOver: true) == .canceled)
    #expect(Self.code(Self.terms(status: .suspended, expires: 0)) == .suspended)
    #expect(Self.code(Self.terms(from: Self.now + 1), "evil.com") == .notYetValid)
    #expect(Self.code(Self.terms(expires: Self.now - 8 * Self.day), "evil.com") == .expired)
    #expect(Self.code(Self.terms(), "evil.com", isOver: true) == .domainMismatch)
    #expect(Self.code(Self.terms(), "localhost") == .domainMismatch)
    #expect(Self.code(Self.terms(), isOver: true) == .limitExceeded)
    #expect(Self.code(Self.terms(policy: .allow), isOver: true) == .valid)
    #expect(Self.code(Self.terms(expires: Self.now - Self.day)) == .grace)
    #expect(
      Self.code(Self.terms(expires: Self.now - Self.day), isOver: true) == .limitExceeded)
  }

  @Test("The boundaries are exact to the millisecond")
  func boundaries() {
    #expect(Self.code(Self.terms(from: Self.now)) == .valid)
    #expect(Self.code(Self.terms(expires: Self.now + 1)) == .valid)
    #expect(Self.code(Self.terms(expires: Self.now)) == .grace)
    #expect(Self.code(Self.terms(expires: Self.now - 7 * Self.day + 1)) == .grace)
    #expect(Self.code(Self.terms(expires: Self.now - 7 * Self.day)) == .expired)
    #expect(Self.code(Self.terms(expires: Self.now, trial: true)) == .expired)
    #expect(Self.code(Self.terms(expires: Self.now + 1, trial: true)) == .valid)
    #expect(Self.code(Self.terms(expires: .max)) == .valid)
    #expect(Self.code(Self.terms(expires: .min)) == .expired)
  }

  @Test("A verdict explains itself only if the license is not valid")
  func words() {
    for code in Verdict.Code.allCases {
      let verdict = Verdict(code)
      #expect(verdict.isValid == (code == .valid || code == .grace))
      #expect((verdict.explanation == nil) == verdict.isValid)
    }
    #expect(
      Verdict.judge(
        Self.terms(policy: .allow), domain: DomainName("example.com", rules: Self.rules)!,
        now: Self.now, isOverLimit: true
      ).isOverLimit)
  }
}
