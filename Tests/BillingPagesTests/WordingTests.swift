import Testing

@testable import BillingPages

@Suite struct WordingTests {
  @Test func `numbers are grouped`() {
    #expect(Wording.number(0) == "0")
    #expect(Wording.number(999) == "999")
    #expect(Wording.number(1_234_567) == "1,234,567")
    #expect(Wording.number(-1_000) == "−1,000")
    #expect(Wording.number(.min) == "−9,223,372,036,854,775,808")
  }

  @Test func `an axis has three digits at most`() {
    #expect(Wording.compact(950) == "950")
    #expect(Wording.compact(1_200) == "1.2k")
    #expect(Wording.compact(20_000) == "20k")
    #expect(Wording.compact(3_400_000) == "3.4M")
    #expect(Wording.compact(.max) == "9.2E")
  }

  @Test func `a time is written relative to now`() {
    #expect(Wording.relative(1_000, now: 2_000) == "just now")
    #expect(Wording.relative(0, now: 45_000) == "45 s ago")
    #expect(Wording.relative(0, now: 7_200_000) == "2 h ago")
    #expect(Wording.relative(0, now: 30 * 86_400_000) == "30 days ago")
    #expect(Wording.relative(600_000, now: 0) == "in 10 min")
    #expect(Wording.relative(.min, now: .max) == "never")
  }

  @Test func `a change is described in words`() {
    #expect(Wording.change(100, before: 100) == "the same as")
    #expect(Wording.change(112, before: 100) == "12 % more than")
    #expect(Wording.change(88, before: 100) == "12 % less than")
    #expect(Wording.change(5, before: 0) == "more than")
    #expect(Wording.change(5_000, before: 100) == "50 times")
    #expect(Wording.change(.max, before: 1).hasSuffix("times"))
  }

  @Test func `a percentage says 100 only where it is reached`() {
    #expect(Wording.percent(999, of: 1_000) == 99)
    #expect(Wording.percent(1_000, of: 1_000) == 100)
    #expect(Wording.percent(5, of: 0) == 100)
    #expect(Wording.percent(.max, of: 1) == .max)
  }

  @Test func `addresses are encoded byte by byte`() {
    #expect(PageContext.segment("a/b?c#d%e") == "a%2Fb%3Fc%23d%25e")
    #expect(PageContext.segment("ü") == "%C3%BC")
    #expect(PageContext.segment("lic_abc-1.2~") == "lic_abc-1.2~")
  }

  @Test func `an alert counts once, three times and within an hour`() {
    func words(_ data: [String: String]) -> String {
      AlertWords.summary(type: "license.suspicious_activity") { data[$0] }
    }
    let use = ["reason": "domain_mismatch", "requested_domain": "a.example"]
    #expect(words(use.merging(["count": "1"]) { $1 }).hasSuffix("Seen once."))
    #expect(words(use.merging(["count": "3000"]) { $1 }).hasSuffix("Seen 3,000 times."))
    #expect(words(["reason": "canceled_use", "count": "1"]).hasSuffix("validations go on: once."))
    let spread = ["reason": "domain_spread", "distinct_domains": "6"]
    #expect(words(spread.merging(["window_seconds": "3600"]) { $1 }).contains("within an hour:"))
    #expect(words(spread.merging(["window_seconds": "600"]) { $1 }).contains("within 10 min:"))
  }
}
