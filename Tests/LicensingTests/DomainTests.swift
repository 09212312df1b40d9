import DomainNames
import Licensing
import Testing

/// With the real list and tables.
struct DomainTests {
  static let rules = PublicSuffixList()!

  @Test(
    "A domain is compared in one spelling",
    arguments: [
      ("example.com", "example.com"), ("EXAMPLE.Com", "example.com"),
      ("example.com.", "example.com"), ("example.com:8443", "example.com"),
      ("example.com.:80", "example.com"), ("bücher.example", "xn--bcher-kva.example"),
      ("BÜCHER.example", "xn--bcher-kva.example"),
      ("xn--bcher-kva.example", "xn--bcher-kva.example"),
      ("bu\u{308}cher.example", "xn--bcher-kva.example"), ("faß.de", "xn--fa-hia.de"),
      ("日本語。jp", "xn--wgv71a119e.jp"), ("under_score.example", "under_score.example"),
      ("localhost:3000", "localhost"), ("192.0.2.1", "192.0.2.1"), ("192.0.2.1:80", "192.0.2.1"),
      ("[2001:DB8::1]:443", "2001:db8:0:0:0:0:0:1"), ("2001:db8::1", "2001:db8:0:0:0:0:0:1"),
      ("::ffff:127.0.0.1", "0:0:0:0:0:ffff:7f00:1"),
    ])
  func spelling(_ text: String, _ expected: String) {
    #expect(DomainName(text, rules: Self.rules)?.description == expected)
  }

  @Test(
    "What is no domain is none",
    arguments: [
      "", ".", "..", "a..b", ".example.com", "example.com..", "-a.example", "a-.example",
      "a b.example", "https://example.com", "example.com/path", "user@example.com", "*.example.com",
      "example.com:", "example.com:port", "example.com:123456", "[::1", "[example.com]", "1.2.3",
      "127.1", "2130706433", "0x7f.1", "0x7f000001", "256.1.1.1", "0177.0.0.1", "1.2.3.4.",
      String(repeating: "a", count: 64) + ".com",
      String(repeating: "a.", count: 127) + "com", "xn--a.example", "a\u{0}b.example",
      "example\u{2024}com\u{0}", "\u{202E}example.com",
    ])
  func malformed(_ text: String) {
    #expect(DomainName(text, rules: Self.rules) == nil)
  }

  @Test(
    "A bound domain covers itself, a wildcard what is below it at every depth",
    arguments: [
      (["example.com"], "example.com", true), (["example.com"], "www.example.com", false),
      (["*.example.com"], "www.example.com", true), (["*.example.com"], "a.b.c.example.com", true),
      (["*.example.com"], "example.com", false), (["*.example.com"], "badexample.com", false),
      (["*.example.com"], "example.com.evil.net", false), (["example.com"], "example.org", false),
      (["Example.COM."], "example.com", true),
      (["*.Bücher.example"], "a.xn--bcher-kva.example", true),
      (["example.com", "*.example.org"], "x.example.org", true), (["co.uk"], "co.uk", false),
      (["*.co.uk"], "victim.co.uk", false), (["*.github.io"], "someone.github.io", false),
      (["someone.github.io"], "someone.github.io", true), (["com"], "com", false),
      (["*.com"], "example.com", false), (["192.0.2.1"], "192.0.2.1", true),
      (["*.192.0.2.1"], "1.192.0.2.1", false), ([], "example.com", false),
      (["*.s3.amazonaws.com"], "bucket.s3.amazonaws.com", false),
    ])
  func covers(_ bound: [String], _ requested: String, _ expected: Bool) {
    let bound = BoundDomains(bound, rules: Self.rules)
    let name = DomainName(requested, rules: Self.rules)
    #expect(name.map(bound.covers) ?? false == expected)
  }

  @Test("What cannot be bound says why")
  func refusals() throws {
    for (domain, refusal) in [
      ("co.uk", BoundDomains.Refusal.publicSuffix), ("*.github.io", .publicSuffix),
      ("com", .publicSuffix), ("localhost", .publicSuffix), ("*.192.0.2.1", .addressWildcard),
      ("https://example.com", .notADomain), ("*.*.example.com", .notADomain), ("*", .notADomain),
    ] {
      #expect(throws: refusal) { try BoundDomains.normalized(domain, rules: Self.rules) }
    }
    #expect(
      try BoundDomains.normalized("*.Bücher.Example.", rules: Self.rules)
        == "*.xn--bcher-kva.example")
  }

  @Test(
    "Where developers run what they write is local",
    arguments: [
      ("localhost", true), ("app.localhost:8080", true), ("shop.test", true), ("127.0.0.1", true),
      ("127.8.8.8", true), ("[::1]:80", true), ("::ffff:127.0.0.1", true), ("example.com", false),
      ("localhost.example.com", false), ("test.com", false), ("128.0.0.1", false),
    ])
  func local(_ text: String, _ expected: Bool) {
    #expect(DomainName(text, rules: Self.rules)?.isLocal == expected)
  }

  @Test("The closest bound domain has most labels in common from the right")
  func closest() throws {
    let bound = BoundDomains(["example.com", "*.shop.example.org"], rules: Self.rules)
    func closest(_ text: String) -> String? {
      DomainName(text, rules: Self.rules).flatMap(bound.closest)
    }
    #expect(closest("shop.example.org") == "*.shop.example.org")
    #expect(closest("other.org") == "*.shop.example.org")
    #expect(closest("www.example.com") == "example.com")
    #expect(closest("pirated-site.net") == "example.com")
    #expect(
      BoundDomains([], rules: Self.rules).closest(to: DomainName("a.com", rules: Self.rules)!)
        == nil)
  }

  @Test("Registrable domains come from the list, names under no rule from its default")
  func registrable() {
    #expect(Self.rules.registrableDomain("a.b.example.co.uk") == "example.co.uk")
    #expect(Self.rules.registrableDomain("a.someone.github.io") == "someone.github.io")
    #expect(Self.rules.registrableDomain("co.uk") == nil)
    #expect(Self.rules.registrableDomain("a.b.unknowntld") == "b.unknowntld")
    #expect(PublicSuffixList(file: "/nonexistent") == nil)
  }
}
