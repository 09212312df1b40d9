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

  @Test("Every code, and what comes before it")
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

  @Test("The boundaries are to the millisecond")
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

  @Test("Who holds says nothing, who does not says why")
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

  @Test("Times are written and read back, leap days and all")
  func times() {
    #expect(UTCTime.text(0) == "1970-01-01T00:00:00.000Z")
    #expect(UTCTime.text(1_764_009_600_123) == "2025-11-24T18:40:00.123Z")
    #expect(UTCTime.text(-1) == "1969-12-31T23:59:59.999Z")
    #expect(UTCTime.text(951_782_400_000) == "2000-02-29T00:00:00.000Z")
    #expect(UTCTime.milliseconds("2100-02-29T00:00:00.000Z") == nil)
    #expect(UTCTime.milliseconds("2025-11-24T18:40:60.000Z") == nil)
    #expect(UTCTime.milliseconds("2025-11-24T18:40:00Z") == nil)
    for milliseconds in stride(
      from: Int64(-70_000_000_000_000), to: 250_000_000_000_000, by: 86_399_123_457)
    {
      let text = UTCTime.text(milliseconds)
      if milliseconds >= -62_167_219_200_000 {
        #expect(UTCTime.milliseconds(text) == milliseconds)
      }
    }
  }
}
