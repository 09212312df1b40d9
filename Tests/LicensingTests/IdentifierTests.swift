import Licensing
import Metering
import Testing

/// Pairs of different texts that Swift's `String` considers equal.
private let lookalikes: [(Identifier, Identifier)] = [
  ("LIC-K1", "LIC-\u{212A}1"), ("a;b", "a\u{37E}b"), ("a`b", "a\u{1FEF}b"),
  ("M\u{FC}ller", "Mu\u{308}ller"), ("\u{C5}", "\u{212B}"), ("\u{C5}", "A\u{30A}"),
]

struct IdentifierTests {
  @Test func `Texts that are canonically equivalent are different identifiers`() {
    for (one, other) in lookalikes {
      #expect(one.string == other.string, "the pair shows nothing otherwise")
      #expect(one != other && (one < other) != (other < one))
      #expect(Set([one, other]).count == 2)
      #expect([one: 1, other: 2][one] == 1)
    }
  }

  @Test func `Identifiers are in the order of their bytes`() {
    let ordered: [Identifier] = ["", "A", "K", "a", "a\u{0}", "aa", "\u{FC}", "\u{212A}"]
    #expect(ordered.reversed().sorted() == ordered)
  }

  @Test func `Identifiers in a row are hashed apart`() {
    struct Pair: Hashable { var a: Identifier, b: Identifier }
    var hashes: Set<Int> = []
    for i in 0...4 {
      let text = "abcd"
      let middle = text.index(text.startIndex, offsetBy: i)
      hashes.insert(
        Pair(a: Identifier(String(text[..<middle])), b: Identifier(String(text[middle...])))
          .hashValue)
    }
    #expect(hashes.count == 5)
  }

  @Test func `Segments of a path keep what was joined apart`() {
    let texts = ["a", "a/b", "a%2Fb", "a%b", "", "/", "%", "\u{212A}", "K"]
    #expect(Set(texts.map { Identifier(PercentEncoding.segment($0)) }).count == texts.count)
    #expect(PercentEncoding.segment("a/%") == "a%2F%25")
  }

  @Test func `A key is found by the bytes of its id`() throws {
    var keys = JSONWebKeySet()
    let key = try #require(JSONWebKey.generate(.edDSA, for: .license))
    let json = String(
      decoding: {
        try? keys.add(key)
        return keys.publicJSON
      }(), as: UTF8.self)
    let named = try JSONWebKeySet(
      json: json.replacing("\"kid\":\"\(key.keyID)\"", with: "\"kid\":\"K\"").utf8)
    #expect(named["K"] != nil && named["\u{212A}"] == nil)
  }

  @Test func `Claims that differ in bytes are different claims`() {
    func claims(_ id: Identifier, domains: [String] = []) -> LicenseClaims {
      LicenseClaims(licenseID: id, domains: domains, plan: "p", issuedAt: 0, expiresAt: 1)
    }
    #expect(claims("K") == claims("K") && claims("K") != claims("\u{212A}"))
    #expect(claims("a", domains: ["\u{FC}"]) != claims("a", domains: ["u\u{308}"]))
  }

  @Test func `A write scope includes its read scope, and admin everything`() {
    #expect(TokenScope.usageRead.isGranted(by: ["usage:write"]))
    #expect(TokenScope.licensesValidate.isGranted(by: ["usage:write"]))
    #expect(!TokenScope.usageWrite.isGranted(by: ["usage:read", "licenses:validate"]))
    #expect(!TokenScope.billingRead.isGranted(by: ["usage:write"]))
    for scope in TokenScope.allCases {
      #expect(scope.isGranted(by: ["admin"]) && scope.isGranted(by: [scope.rawValue]))
      #expect(!scope.isGranted(by: []))
    }
  }
}
