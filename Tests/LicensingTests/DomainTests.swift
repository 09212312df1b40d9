import Licensing
import Metering
import Testing

@testable import DomainNames

/// Tests with the real list and tables.
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
      ("::ffff:127.0.0.1", "0:0:0:0:0:ffff:7f00:1"), ("bound.example:", "bound.example"),
      ("example.com.:", "example.com"), ("example.com:00080", "example.com"),
      ("[2001:db8::1]:", "2001:db8:0:0:0:0:0:1"), ("192.0.2.1:", "192.0.2.1"),
      ("i\u{2764}.example", "xn--i-7iq.example"),
      ("I\u{2764}\u{FE0F}.Example", "xn--i-7iq.example"),
      ("xn--i-7iq.example", "xn--i-7iq.example"), ("XN--I-7IQ.example:443", "xn--i-7iq.example"),
      ("\u{2615}.example", "xn--53h.example"), ("a.\u{2615}\u{3002}example.", "a.xn--53h.example"),
      ("\u{1F4A9}.la", "xn--ls8h.la"),
      ("B\u{DC}cher\u{2615}.example", "xn--bcher-kva7957d.example"),
      ("\u{2615}-\u{FC}.example", "xn----eha306z.example"),
      ("\u{20AC}uro.example", "xn--uro-j50a.example"),
      ("app\u{2122}.example", "apptm.example"),
      ("under_score.\u{2615}.example", "under_score.xn--53h.example"),
    ])
  func spelling(_ text: String, _ expected: String) {
    #expect(DomainName(text, rules: Self.rules)?.description == expected)
  }

  @Test(
    "A text that is not a domain is not taken for one",
    arguments: [
      "", ".", "..", "a..b", ".example.com", "example.com..", "-a.example", "a-.example",
      "a b.example", "https://example.com", "example.com/path", "user@example.com", "*.example.com",
      "example.com:port", "example.com:123456", "example.com:65536", "example.com::80", ":80",
      "xn--.example", "xn--i-7iq9.example", "xn--I\u{2764}.example", "\u{FE0F}.example",
      "xn--\u{2615}.example", "\u{1F468}\u{200D}\u{1F469}.example", "xn--\u{FC}.example",
      "a\u{200B}\u{202E}b\u{2615}.example", "\u{2615}..example", "-\u{2615}.\u{FFFD}",
      String(repeating: "\u{2615}", count: 64) + ".example",
      String(repeating: "\u{2615}", count: 341), "[::1", "[example.com]", "1.2.3",
      "127.1", "2130706433", "0x7f.1", "0x7f000001", "256.1.1.1", "0177.0.0.1", "1.2.3.4.",
      String(repeating: "a", count: 64) + ".com",
      String(repeating: "a.", count: 127) + "com", "xn--a.example", "a\u{0}b.example",
      "example\u{2024}com\u{0}", "\u{202E}example.com",
    ])
  func malformed(_ text: String) {
    #expect(DomainName(text, rules: Self.rules) == nil)
  }

  @Test func `A stranger's name full of symbols is soon given up`() {
    func calls(_ scalars: [UInt32]) -> Int {
      var text = ""
      text.unicodeScalars.append(contentsOf: scalars.compactMap(Unicode.Scalar.init))
      var count = 0
      let names = SymbolNames { piece in
        count += 1
        return PublicSuffixList.strictASCII(piece)
      }
      #expect(names.ascii(text) == nil)
      return count
    }
    // Letters and symbols in turn, all of them different, and the same with a full stop after 20.
    let turns: [UInt32] = (0..<320).map { ($0 % 2 == 0 ? 0x4E00 : 0x2600) + $0 / 2 }
    #expect(calls(turns) < 80)
    let labels = turns.enumerated().map { $0 % 20 == 19 ? 0x2E : $1 }
    #expect(calls(labels) < 200)
    // Marks that stand for letters, which are circled here.
    #expect(calls((0..<320).map { 0x24B6 + $0 % 26 }) < 100)
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

  @Test("A domain that cannot be bound says why")
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
    "Hosts where developers run their own work are local",
    arguments: [
      ("localhost", true), ("app.localhost:8080", true), ("shop.test", true), ("127.0.0.1", true),
      ("127.8.8.8", true), ("[::1]:80", true), ("::ffff:127.0.0.1", true), ("example.com", false),
      ("localhost.example.com", false), ("test.com", false), ("128.0.0.1", false),
    ])
  func local(_ text: String, _ expected: Bool) {
    #expect(DomainName(text, rules: Self.rules)?.isLocal == expected)
  }

  @Test("The domains of one owner are one, whatever an attacker puts before them")
  func registrableOfName() throws {
    for (text, expected) in [
      ("a.b.example.co.uk", "example.co.uk"), ("x1.\u{2615}.example", "xn--53h.example"),
      ("co.uk", "co.uk"), ("192.0.2.1:80", "192.0.2.1"), ("198.51.2.1", "198.51.2.1"),
      ("[2001:db8:0:7::9]", "2001:db8:0:7::/64"),
      ("[2001:db8:0:7:1:2:3:4]:80", "2001:db8:0:7::/64"),
    ] {
      let name = try #require(DomainName(text, rules: Self.rules))
      #expect(name.registrable(by: Self.rules) == expected)
    }
  }

  @Test("A name's own spelling is taken for itself, and every label survives the round trip")
  func roundTrips() throws {
    for text in [
      "i\u{2764}.example", "\u{2615}.example", "b\u{FC}cher.example", "\u{65E5}\u{672C}.jp",
    ] {
      let name = try #require(DomainName(text, rules: Self.rules))
      #expect(DomainName(name.description, rules: Self.rules) == name)
      let bound = BoundDomains(["*." + text], rules: Self.rules)
      #expect(bound.covers(try #require(DomainName("a." + name.description, rules: Self.rules))))
    }
  }

  @Test("The closest bound domain has the most labels in common from the right")
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

  @Test("Registrable domains come from the list, and from its default for names under no rule")
  func registrable() {
    #expect(Self.rules.registrableDomain("a.b.example.co.uk") == "example.co.uk")
    #expect(Self.rules.registrableDomain("a.someone.github.io") == "someone.github.io")
    #expect(Self.rules.registrableDomain("co.uk") == nil)
    #expect(Self.rules.registrableDomain("a.b.unknowntld") == "b.unknowntld")
    #expect(PublicSuffixList(file: "/nonexistent") == nil)
  }
}
