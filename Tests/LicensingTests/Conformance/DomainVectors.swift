import DomainNames
import JSONText

@testable import Licensing

/// Names and the domains that cover them: `domains.json` and `covers.json`. Names that need the
/// tables of UTS #46 are marked (`idna`).
enum DomainVectors {
  static let names = [
    "example.com", "EXAMPLE.Com", "example.com.", "example.com:8443", "example.com.:80",
    "bound.example:",
    "example.com.:", "example.com:00080", "under_score.example", "localhost:3000", "localhost",
    "app.localhost", "notlocalhost", "localhost.example.com", "test", "shop.test", "test.com",
    "192.0.2.1",
    "192.0.2.1:80", "192.0.2.1:", "127.0.0.1", "127.8.8.8:80", "128.0.0.1", "[2001:DB8::1]:443",
    "2001:db8::1", "[2001:db8::1]:", "[2001:db8::1]", "::1", "[::1]:80", "::", "1::",
    "::ffff:127.0.0.1",
    "::ffff:192.0.2.1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
    "1:2:3:4:5:6:1.2.3.4",
    "2001:0db8:0000:0000:0000:0000:0000:0001", "xn--bcher-kva.example", "XN--BCHER-KVA.example",
    "a-b.example", "a--b.example", "1.example", "example.1a", "a.0xg", "co.uk", "com",
    String(repeating: "a", count: 63) + ".com",
    String(repeating: "a.", count: 125) + "com", "", ".", "..", "a..b", ".example.com",
    "example.com..",
    "-a.example", "a-.example", "a b.example", " example.com", "example.com ", "example.com\n",
    "https://example.com", "example.com/path", "user@example.com", "*.example.com",
    "example.com:port",
    "example.com:123456", "example.com:65536", "example.com:65535", "example.com:+80",
    "example.com:-1",
    "example.com::80", ":80", "[::1", "::1]", "[example.com]", "[192.0.2.1]", "[::1]x", "[::1]:x",
    "[::1]:65536", "fe80::1%eth0", "1.2.3", "127.1", "2130706433", "0x7f.1", "0x7f000001", "a.0x7f",
    "256.1.1.1", "0177.0.0.1", "1.2.3.4.", "1.2.3.4.5", "1::2::3", ":::", "1:2:3:4:5:6:7:8:9",
    "12345::", "1:2:3:4:5:6:7", "::1.2.3", "::01.2.3.4", "+1::", "::g", "1.2.3.4::",
    String(repeating: "a", count: 64) + ".com", String(repeating: "a.", count: 127) + "com",
    String(repeating: "a.", count: 600) + "com", "a\u{0}b.example", "a,b.example", "a%2eb.example",
    "a\\b.example", "exa\tmple.com", "a'b.example",
  ]

  static let international = [
    "b\u{FC}cher.example", "B\u{DC}CHER.example", "bu\u{308}cher.example", "fa\u{DF}.de",
    "\u{65E5}\u{672C}\u{8A9E}\u{3002}jp", "\u{3B2}\u{3CC}\u{3BB}\u{3BF}\u{3C2}.example",
    "\u{FF45}xample.com", "i\u{2764}.example", "\u{2615}.example", "xn--i-7iq.example",
    "\u{20AC}uro.example", "app\u{2122}.example", "under_score.b\u{FC}.example",
    "b\u{FC}cher.example:443", "b\u{FC}cher.example.", "\u{5D0}\u{5D1}.example", "xn--.example",
    "xn--a.example", "xn--\u{FC}.example", "\u{202E}example.com", "a\u{200B}b.example",
    "\u{FE0F}.example", "-\u{FC}.example", "\u{FF11}\u{FF12}\u{FF17}.1", "a\u{FF0F}b.example",
  ]

  static let bindings: [(bound: [String], domains: [String])] = [
    (
      ["example.com"],
      [
        "example.com", "EXAMPLE.com.:443", "www.example.com", "badexample.com",
        "example.com.evil.net",
        "example.org", "com", "localhost", "192.0.2.1", "a b",
      ]
    ),
    (
      ["*.example.com"],
      [
        "www.example.com", "a.b.c.example.com", "example.com", "badexample.com", ".example.com",
        "example.com.evil.net", "www.example.com:8080",
      ]
    ),
    (["Example.COM."], ["example.com"]), (["example.com:443"], ["example.com"]),
    (["example.com", "*.example.org"], ["x.example.org", "example.org", "example.com"]),
    (["co.uk", "*.co.uk", "com", "*.com", "uk"], ["co.uk", "victim.co.uk", "com", "example.com"]),
    (["*.github.io", "github.io"], ["someone.github.io", "github.io"]),
    (["someone.github.io", "*.other.github.io"], ["someone.github.io", "a.other.github.io"]),
    (["*.s3.amazonaws.com"], ["bucket.s3.amazonaws.com"]),
    (
      ["*.ck", "ck", "*.foo.ck", "www.ck", "*.www.ck"],
      ["a.ck", "a.foo.ck", "b.a.foo.ck", "www.ck", "a.www.ck"]
    ),
    (
      ["kawasaki.jp", "*.kawasaki.jp", "a.kawasaki.jp", "city.kawasaki.jp", "*.city.kawasaki.jp"],
      ["kawasaki.jp", "a.kawasaki.jp", "city.kawasaki.jp", "x.city.kawasaki.jp", "b.a.kawasaki.jp"]
    ),
    (["*.compute.amazonaws.com"], ["a.compute.amazonaws.com", "b.a.compute.amazonaws.com"]),
    (
      ["unknowntld", "*.unknowntld", "a.unknowntld"],
      ["unknowntld", "x.unknowntld", "a.unknowntld"]
    ),
    (["192.0.2.1", "*.192.0.2.2"], ["192.0.2.1", "192.0.2.1:80", "192.0.2.2", "1.192.0.2.2"]),
    (["2001:db8::1"], ["[2001:DB8:0:0::1]:443", "2001:db8::2"]),
    (
      ["localhost", "*.localhost", "shop.test", "127.0.0.1", "::1"],
      ["localhost", "a.localhost", "shop.test", "127.0.0.1", "::1"]
    ),
    (
      ["https://example.com", "*.*.example.com", "*", "*.", "a*.example.com", ""],
      ["example.com", "a.b.example.com", "ab.example.com"]
    ),
    ([], ["example.com"]),
  ]

  static let internationalBindings: [(bound: [String], domains: [String])] = [
    (["*.B\u{FC}cher.example"], ["a.xn--bcher-kva.example", "a.b\u{FC}cher.example"]),
    (["xn--bcher-kva.example"], ["b\u{FC}cher.example", "bucher.example"]),
    (["*.xn--55qx5d.cn"], ["a.\u{516C}\u{53F8}.cn"]),
  ]

  static func write(to file: inout VectorFile) {
    for (texts, needsTables) in [(names, false), (international, true)] {
      for text in texts {
        file.add(nil) { json in
          json.member("text", text)
          let name = DomainName(text, rules: DomainTests.rules)
          if let name { json.member("name", name.description) }
          json.member("local", name?.isLocal ?? false)
          if needsTables { json.member("idna", true) }
        }
      }
    }
  }

  static func writeCovers(to file: inout VectorFile) {
    for (bindings, needsTables) in [(bindings, false), (internationalBindings, true)] {
      for (bound, domains) in bindings {
        for text in domains {
          file.add(nil) { json in
            json.member("bound", bound)
            json.member("domain", text)
            let name = DomainName(text, rules: DomainTests.rules)
            let covers = BoundDomains(bound, rules: DomainTests.rules).covers
            json.member("covers", name.map { !$0.isLocal && covers($0) } ?? false)
            if needsTables { json.member("idna", true) }
          }
        }
      }
    }
  }
}
