import Metering
import Testing

@testable import Licensing

/// Tokens as attackers write them: the cases of RFC 8725 and of the published failures of JOSE
/// libraries.
struct TokenTests {
  static let claims = LicenseClaims(
    licenseID: "lic_abc123", domains: ["example.com"], plan: "professional",
    features: ["analytics", "webhooks"],
    limits: [.init(name: "apiCalls", quantity: 50_000), .init(name: "seats", quantity: 10)],
    issuedAt: 1_711_929_600_000, expiresAt: 1_743_465_600_000)

  static let key = JSONWebKey.generate(.edDSA, for: .license)!
  static let ecKey = JSONWebKey.generate(.es256, for: .license)!

  static func set(_ keys: JSONWebKey...) -> JSONWebKeySet {
    var set = JSONWebKeySet()
    for key in keys { #expect(throws: Never.self) { try set.add(key) } }
    return set
  }

  static let verifier = LicenseVerifier(keys: set(key))

  /// A token of these parts, with a signature by `key` over exactly them.
  static func token(header: String, payload: String, key: JSONWebKey = key) -> String {
    let input = Base64URL.encode(header.utf8) + "." + Base64URL.encode(payload.utf8)
    return input + "." + Base64URL.encode(key.signature(for: Array(input.utf8))!)
  }

  static let goodPayload =
    #"{"sub":"lic_1","domain":"example.com","plan":"p","features":[],"limits":{"apiCalls":5},"iat":1,"exp":2}"#

  static func header(_ members: String) -> String {
    #"{"alg":"EdDSA","kid":"\#(key.keyID)"\#(members)}"#
  }

  @Test("An issued token is verified, with either algorithm, and says what went in")
  func roundTrip() throws {
    for key in [Self.key, Self.ecKey] {
      let token = try #require(LicenseSigner(keys: Self.set(key))?.token(Self.claims))
      #expect(try LicenseVerifier(keys: Self.set(key)).verify(token) == Self.claims)
      // A verifier needs only the public half.
      let published = try JSONWebKeySet(json: Self.set(key).publicJSON)
      #expect(!published.keys[0].isPrivate)
      #expect(try LicenseVerifier(keys: published).verify(token) == Self.claims)
      let kept = try JSONWebKeySet(json: Self.set(key).privateJSON)
      #expect(LicenseSigner(keys: kept)?.token(Self.claims) != nil)
    }
  }

  @Test("The example of a seed license is read to the last member")
  func seed() throws {
    let token = Self.token(
      header: Self.header(#","typ":"license+jwt""#),
      payload: """
        { "sub": "lic_abc123", "domain": "example.com", "plan": "professional",
          "features": ["analytics", "webhooks"], "unknown": {"a": [1.5, null]},
          "limits": { "apiCalls": 50000, "seats": 10 }, "iat": 1711929600, "exp": 1743465600 }
        """)
    #expect(try Self.verifier.verify(token) == Self.claims)
  }

  @Test(
    "An algorithm that is not the key's is refused, whatever the token claims",
    arguments: [
      (#"{"alg":"none"}"#, TokenRefusal.unsupportedAlgorithm),
      (#"{"alg":"None"}"#, .unsupportedAlgorithm), (#"{"alg":"nOnE"}"#, .unsupportedAlgorithm),
      (#"{"alg":""}"#, .unsupportedAlgorithm), (#"{"alg":"HS256"}"#, .unsupportedAlgorithm),
      (#"{"alg":"HS512"}"#, .unsupportedAlgorithm), (#"{"alg":"PS256"}"#, .unsupportedAlgorithm),
      (#"{"alg":"ES256K"}"#, .unsupportedAlgorithm), (#"{"alg":"eddsa"}"#, .unsupportedAlgorithm),
      (#"{"alg":"ES256"}"#, .algorithmMismatch), (#"{"alg":"RS256"}"#, .algorithmMismatch),
      (#"{"alg":["EdDSA"]}"#, .badHeader), (#"{"alg":null}"#, .badHeader), (#"{}"#, .badHeader),
      (#"{"alg":"none","alg":"EdDSA"}"#, .badHeader), (#"["EdDSA"]"#, .badHeader),
      (#""#, .badHeader), (#"{"alg":"EdDSA"} "x""#, .badHeader),
      (#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#, .critical),
      (#"{"alg":"EdDSA","crit":[]}"#, .critical),
      (#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#, .critical),
      (#"{"alg":"EdDSA","b64":false}"#, .critical),
      (#"{"alg":"EdDSA","typ":"verdict+jwt"}"#, .wrongType),
      (#"{"alg":"EdDSA","typ":"at+jwt"}"#, .wrongType), (#"{"alg":"EdDSA","typ":5}"#, .badHeader),
      (#"{"alg":"EdDSA","kid":"other"}"#, .unknownKey),
      (#"{"alg":"EdDSA","kid":"../../dev/null"}"#, .unknownKey),
      (#"{"alg":"EdDSA","kid":["a"]}"#, .badHeader),
    ])
  func header(_ header: String, _ refusal: TokenRefusal) {
    let token = Self.token(header: header, payload: Self.goodPayload)
    #expect(throws: refusal) { try Self.verifier.verify(token) }
    // The token with its signature stripped is refused too.
    let stripped = token.split(separator: ".").prefix(2).joined(separator: ".") + "."
    #expect(throws: TokenRefusal.self) { try Self.verifier.verify(stripped) }
  }

  @Test("A key that a token brings along is not believed")
  func embeddedKey() throws {
    let attacker = JSONWebKey.generate(.edDSA, for: .license)!
    let own = String(
      decoding: Self.set(attacker).publicJSON.dropFirst(9).dropLast(2), as: UTF8.self)
    for extra in [
      #","jwk":\#(own)"#, #","jku":"https://attacker.example/keys""#,
      #","x5u":"https://attacker.example/c""#, #","x5c":["AAAA"]"#,
    ] {
      let token = Self.token(
        header: #"{"alg":"EdDSA"\#(extra)}"#, payload: Self.goodPayload, key: attacker)
      #expect(throws: TokenRefusal.badSignature) { try Self.verifier.verify(token) }
    }
  }

  @Test("Every change of a character of a token is refused")
  func everyChange() throws {
    let token = Self.token(header: Self.header(""), payload: Self.goodPayload)
    #expect(throws: Never.self) { try Self.verifier.verify(token) }
    let bytes = Array(token.utf8)
    for i in bytes.indices {
      var changed = bytes
      changed[i] = changed[i] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      #expect(throws: TokenRefusal.self, "at \(i)") {
        try Self.verifier.verify(String(decoding: changed, as: UTF8.self))
      }
    }
    for i in bytes.indices {
      #expect(throws: TokenRefusal.self) {
        try Self.verifier.verify(String(decoding: bytes[..<i], as: UTF8.self))
      }
    }
  }

  @Test(
    "Other forms of a token are refused",
    arguments: [
      "", ".", "..", "...", "a.b", "e30.e30.", " ", "\u{0}",
      #"{"payload":"e30","signatures":[]}"#,
    ])
  func forms(_ token: String) {
    #expect(throws: TokenRefusal.self) { try Self.verifier.verify(token) }
  }

  @Test("Padding, blanks, further parts and bits after the last byte are refused")
  func spelling() throws {
    let token = Self.token(header: Self.header(""), payload: Self.goodPayload)
    for other in [
      token + "=", token + "==", token + "\n", " " + token, token + ".", token + ".AA",
      token.replacing(".", with: ".."), token + "+", "Bearer " + token,
    ] {
      #expect(throws: TokenRefusal.notCompact) { try Self.verifier.verify(other) }
    }
    // The last letter of 64 bytes carries two bits, and the others must be zero.
    #expect(Base64URL.decode(Array("AA".utf8)) == [0])
    #expect(Base64URL.decode(Array("AB".utf8)) == nil)
    #expect(Base64URL.decode(Array("A".utf8)) == nil)
    #expect(throws: TokenRefusal.tooLarge) {
      try Self.verifier.verify(String(repeating: "a", count: 8_193))
    }
  }

  @Test("ES256 signatures are 64 bytes, and zeros are refused")
  func ecdsa() throws {
    let verifier = LicenseVerifier(keys: Self.set(Self.ecKey))
    let good = Self.token(
      header: #"{"alg":"ES256","kid":"\#(Self.ecKey.keyID)"}"#, payload: Self.goodPayload,
      key: Self.ecKey)
    #expect(throws: Never.self) { try verifier.verify(good) }
    let input = good.split(separator: ".").prefix(2).joined(separator: ".")
    let order: [UInt8] = [
      0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC,
      0xE6,
      0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ]
    let zero = [UInt8](repeating: 0, count: 32)
    for signature in [
      [], zero, zero + zero, order + order, zero + order, [0x30, 0x06, 2, 1, 1, 2, 1, 1],
    ] {
      #expect(throws: TokenRefusal.badSignature) {
        try verifier.verify(input + "." + Base64URL.encode(signature))
      }
    }
  }

  @Test(
    "Claims of another type, doubled, out of bounds or missing are refused by their name",
    arguments: [
      ("\"lic_1\"", "5", TokenRefusal.Claim.subject), ("\"lic_1\"", "null", .subject),
      ("\"lic_1\"", "\"\"", .subject), ("\"iat\":1,", "", .issuedAt),
      ("\"exp\":2", "\"exp\":\"2\"", .expiresAt), ("\"exp\":2", "\"exp\":1.0", .expiresAt),
      ("\"exp\":2", "\"exp\":0", .expiresAt),
      ("\"exp\":2", "\"exp\":99999999999999999999", .expiresAt),
      ("\"exp\":2", "\"exp\":1e999999999999999999999", .expiresAt),
      ("\"exp\":2", "\"exp\":9.3e15", .expiresAt), ("\"exp\":2", "\"exp\":1e-400", .expiresAt),
      ("\"exp\":2", "\"exp\":-1", .expiresAt), ("\"exp\":2", "\"exp\":2,\"exp\":9", .repeated),
      ("\"exp\":2", "\"exp\":253402300800", .expiresAt), ("\"exp\":2", "\"exp\":null", .expiresAt),
      ("\"exp\":2", "\"exp\":2,\"nbf\":\"1\"", .notBefore),
      ("\"exp\":2", "\"exp\":2,\"nbf\":-0.5", .notBefore),
      ("\"exp\":2", "\"exp\":2,\"trial\":1", .trial),
      ("\"example.com\"", "[\"example.com\"]", .domain),
      ("\"features\":[]", "\"features\":{}", .features),
      ("\"features\":[]", "\"features\":[1]", .features),
      ("\"apiCalls\":5", "\"apiCalls\":-5", .limits),
      ("\"apiCalls\":5", "\"apiCalls\":5.5", .limits),
      ("\"apiCalls\":5", "\"apiCalls\":\"5\"", .limits),
      ("\"apiCalls\":5", "\"apiCalls\":1e30", .limits),
      ("\"apiCalls\":5", "\"apiCalls\":5e-400000000000000", .limits),
      ("\"apiCalls\":5", "\"apiCalls\":9223372036854775808", .limits),
      ("\"apiCalls\":5", "\"apiCalls\":5,\"apiCalls\":500", .limits),
      ("\"lic_1\"", "\"\\ud800\"", .subject),
      ("\"lic_1\"", "\"a\\u0000b\"", .subject),
      ("\"plan\":\"p\"", "\"domains\":\"example.com\"", .domains),
      ("\"plan\":\"p\"", "\"plan\":7", .plan),
    ])
  func claims(_ old: String, _ new: String, _ claim: TokenRefusal.Claim) {
    let payload = Self.goodPayload.replacing(old, with: new)
    #expect(payload != Self.goodPayload)
    #expect(throws: TokenRefusal.badClaims(claim)) {
      try Self.verifier.verify(Self.token(header: Self.header(""), payload: payload))
    }
  }

  @Test(
    "Times and limits are JSON numbers, however they are spelled",
    arguments: [
      ("1.9e9", 1_900_000_000_000), ("1900000000.0", 1_900_000_000_000),
      ("19E8", 1_900_000_000_000), ("1900000000.123456", 1_900_000_000_123),
      ("1.9000000001e+9", 1_900_000_000_100), ("190000000000e-2", 1_900_000_000_000),
      ("253402300799.9999", 253_402_300_799_999),
    ] as [(String, Int64)])
  func numericDates(_ spelling: String, _ milliseconds: Int64) throws {
    let payload = Self.goodPayload.replacing("\"exp\":2", with: "\"exp\":\(spelling),\"nbf\":0.5")
      .replacing("\"iat\":1", with: "\"iat\":1e0")
      .replacing("\"apiCalls\":5", with: "\"apiCalls\":50000.0,\"seats\":1e1,\"calls\":-0")
    let claims = try Self.verifier.verify(Self.token(header: Self.header(""), payload: payload))
    #expect(claims.expiresAt == milliseconds && claims.issuedAt == 1_000 && claims.notBefore == 500)
    #expect(claims.limits.map(\.quantity) == [50_000, 0, 10])
  }

  @Test("domain and domains apply together, and each domain counts once")
  func domains() throws {
    let payload = Self.goodPayload.replacing(
      "\"plan\"", with: "\"domains\":[\"b.example\",\"example.com\",\"b.example\"],\"plan\"")
    let claims = try Self.verifier.verify(Self.token(header: Self.header(""), payload: payload))
    #expect(claims.domains == ["example.com", "b.example"])
  }

  @Test("Ed25519, the name of RFC 9864, is EdDSA's key and no other's")
  func fullySpecified() throws {
    let token = Self.token(
      header: #"{"alg":"Ed25519","kid":"\#(Self.key.keyID)","typ":"JWT"}"#,
      payload: Self.goodPayload)
    #expect(try Self.verifier.verify(token).licenseID == "lic_1")
    let json = String(decoding: Self.set(Self.key).publicJSON, as: UTF8.self)
    let named = try JSONWebKeySet(json: json.replacing("EdDSA", with: "Ed25519").utf8)
    #expect(try LicenseVerifier(keys: named).verify(token).licenseID == "lic_1")
    #expect(throws: TokenRefusal.algorithmMismatch) {
      try LicenseVerifier(keys: Self.set(Self.ecKey)).verify(
        Self.token(header: #"{"alg":"Ed25519"}"#, payload: Self.goodPayload, key: Self.ecKey))
    }
    for name in ["Ed448", "ed25519", "ESP256"] {
      #expect(throws: TokenRefusal.unsupportedAlgorithm) {
        try Self.verifier.verify(
          Self.token(header: #"{"alg":"\#(name)"}"#, payload: Self.goodPayload))
      }
    }
  }

  @Test("After a rotation the new key signs, and what the old one signed stays valid")
  func rotation() throws {
    var set = Self.set(Self.key)
    let old = LicenseSigner(keys: set)!.token(Self.claims)!
    let next = JSONWebKey.generate(.edDSA, for: .license)!
    try set.rotate(to: next)
    let new = LicenseSigner(keys: set)!.token(Self.claims)!
    let verifier = LicenseVerifier(keys: set)
    #expect(try verifier.verify(old) == Self.claims)
    #expect(try verifier.verify(new) == Self.claims)
    #expect(throws: TokenRefusal.unknownKey) { try Self.verifier.verify(new) }
    #expect(throws: JSONWebKey.Invalid.self) { try set.add(next) }
    // Without an id, either of two keys could be meant.
    #expect(throws: TokenRefusal.unknownKey) {
      try verifier.verify(Self.token(header: #"{"alg":"EdDSA"}"#, payload: Self.goodPayload))
    }
  }

  @Test("A verdict's key signs no licenses, and a license's key signs no verdicts")
  func purposes() throws {
    let verdictKey = JSONWebKey.generate(.edDSA, for: .verdict)!
    #expect(LicenseSigner(keys: Self.set(verdictKey)) == nil)
    #expect(VerdictSigner(keys: Self.set(Self.key)) == nil)
    let forged = Self.token(
      header: #"{"alg":"EdDSA","kid":"\#(verdictKey.keyID)"}"#, payload: Self.goodPayload,
      key: verdictKey)
    #expect(throws: TokenRefusal.unknownKey) {
      try LicenseVerifier(keys: Self.set(Self.key, verdictKey)).verify(forged)
    }
  }

  @Test("A verdict is believed only for its question, its nonce and its time")
  func verdicts() throws {
    let set = Self.set(Self.key, JSONWebKey.generate(.edDSA, for: .verdict)!)
    let signer = try #require(VerdictSigner(keys: set))
    let now: Int64 = 1_764_009_600_123
    let answer = Array(
      """
      {"valid":true,"domain":"example.com","licenseKeyHash":"\(VerdictQuestion.hash(ofLicenseKey: "lic_1"))",\
      "nonce":"n-12345678","timestamp":"\(UTCTime.text(now))"}
      """.utf8)
    let signature = String(decoding: try #require(signer.sign(answer)), as: UTF8.self)
    let verifier = VerdictVerifier(keys: try JSONWebKeySet(json: set.publicJSON))
    func verify(
      _ signature: String, key: String = "lic_1", domain: String? = "Example.com:443",
      nonce: String = "n-12345678", now: Int64 = now
    ) throws(VerdictVerifier.Refusal) -> [UInt8] {
      try verifier.verify(
        signature: signature,
        question: VerdictQuestion(
          licenseKey: key, domain: domain.flatMap { DomainName($0, rules: DomainTests.rules) },
          nonce: nonce), now: now)
    }
    #expect(try verify(signature) == answer)
    #expect(throws: VerdictVerifier.Refusal.otherNonce) { try verify(signature, nonce: "n-other") }
    #expect(throws: VerdictVerifier.Refusal.otherQuestion) { try verify(signature, key: "lic_2") }
    #expect(throws: VerdictVerifier.Refusal.otherQuestion) {
      try verify(signature, domain: "www.example.com")
    }
    #expect(throws: VerdictVerifier.Refusal.otherQuestion) { try verify(signature, domain: nil) }
    #expect(throws: VerdictVerifier.Refusal.stale) { try verify(signature, now: now + 300_001) }
    #expect(throws: VerdictVerifier.Refusal.stale) { try verify(signature, now: now - 300_001) }
    let license = LicenseSigner(keys: set)!.token(Self.claims)!
    #expect(throws: VerdictVerifier.Refusal.token(.wrongType)) { try verify(license) }
    #expect(throws: TokenRefusal.wrongType) { try LicenseVerifier(keys: set).verify(signature) }
  }

  @Test(
    "Malformed key sets are refused, with the number of the key",
    arguments: [
      "", "[]", "{}", #"{"keys":{}}"#, #"{"keys":[5]}"#, #"{"keys":[{}]}"#,
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#,
      #"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#,
      #"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":5}]}"#,
      #"{"keys":[{"kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","key_ops":"verify"}]}"#,
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","alg":"ES256"}]}"#,
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#,
    ])
  func keySets(_ json: String) {
    #expect(throws: JSONWebKey.Invalid.self) { try JSONWebKeySet(json: json.utf8) }
  }

  @Test(
    "A key of a kind, curve, use or algorithm that is not known here is left out, and the others verify",
    arguments: [
      #"{"kty":"oct","k":"AAAA"}"#, #"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#,
      #"{"kty":"OKP","crv":"Ed448","x":"AAAA"}"#,
      #"{"kty":"EC","crv":"P-384","x":"AAAA","y":"AA"}"#,
      #"{"kty":"EC","crv":"secp256k1","x":"AAAA","y":"AA"}"#,
      #"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#,
      #"{"kty":"RSA","n":"AQAB","e":"AQAB","alg":"PS256"}"#,
      #"{"kty":"RSA","n":"AA","e":"AQAB","use":"enc"}"#,
      #"{"kty":"OKP","crv":"Ed25519","x":"AAAA","key_ops":["deriveBits"]}"#,
      #"{"kty":"OKP","crv":"Ed25519","x":"AAAA","purpose":"webhook"}"#,
    ])
  func unknownKeys(_ other: String) throws {
    let own = String(decoding: Self.set(Self.key).publicJSON, as: UTF8.self)
    let set = try JSONWebKeySet(
      json: own.replacing("{\"keys\":[", with: "{\"keys\":[\(other),").utf8)
    #expect(set.keys.map(\.keyID) == [Self.key.keyID] && set.skipped.map(\.number) == [1])
    let token = Self.token(header: Self.header(""), payload: Self.goodPayload)
    #expect(try LicenseVerifier(keys: set).verify(token).licenseID == "lic_1")
    #expect(!String(decoding: set.publicJSON, as: UTF8.self).contains("AAAA"))
  }

  @Test("Keys may share an id if no token could mean both, and a repeated key counts as one")
  func sharedIDs() throws {
    func named(_ key: JSONWebKey) -> String {
      String(decoding: Self.set(key).publicJSON.dropFirst(9).dropLast(2), as: UTF8.self)
        .replacing(key.keyID, with: "same")
    }
    let (first, second) = (named(Self.key), named(Self.ecKey))
    let set = try JSONWebKeySet(json: "{\"keys\":[\(first),\(second),\(first)]}".utf8)
    #expect(set.keys.count == 2 && set.skipped.map(\.number) == [3])
    for (key, algorithm) in [(Self.key, "EdDSA"), (Self.ecKey, "ES256")] {
      let token = Self.token(
        header: #"{"alg":"\#(algorithm)","kid":"same"}"#, payload: Self.goodPayload, key: key)
      #expect(try LicenseVerifier(keys: set).verify(token).licenseID == "lic_1")
      // Without an id, the algorithm says which one is meant.
      let nameless = Self.token(
        header: #"{"alg":"\#(algorithm)"}"#, payload: Self.goodPayload, key: key)
      #expect(try LicenseVerifier(keys: set).verify(nameless).licenseID == "lic_1")
    }
    let other = named(JSONWebKey.generate(.edDSA, for: .license)!)
    #expect(throws: JSONWebKey.Invalid.self) {
      try JSONWebKeySet(json: "{\"keys\":[\(first),\(other)]}".utf8)
    }
  }

  @Test("A refusal says which rule was broken, and nothing of the token")
  func words() {
    let refusals: [TokenRefusal] =
      [
        .tooLarge, .notCompact, .badHeader, .unsupportedAlgorithm, .critical, .wrongType,
        .unknownKey,
        .algorithmMismatch, .badSignature,
      ] + TokenRefusal.Claim.allCases.map { .badClaims($0) }
    let words = refusals.map { Verdict(refused: $0).explanation ?? "" }
    #expect(Set(words).count == refusals.count)
    #expect(
      words.allSatisfy { $0.hasPrefix("The license key is not accepted: ") && $0.hasSuffix(".") })
  }

  @Test(
    "The keys and signatures of RFC 8037, RFC 7515 A.2 and A.3 verify, and their thumbprints match")
  func vectors() throws {
    // RFC 8037, appendix A, has the key, the thumbprint, and the signature over "Example of Ed25519
    // signing".
    let ed = try JSONWebKeySet(
      json:
        #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#
        .utf8)
    #expect(ed.keys[0].keyID == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
    let token =
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    #expect(
      try CompactJWS.verify(token, keys: ed.keys, types: [nil])
        == Array("Example of Ed25519 signing".utf8))
    // The vector of RFC 7515 A.3.
    let ec = try JSONWebKeySet(
      json:
        #"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#
        .utf8)
    let payload =
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    let ecToken =
      "eyJhbGciOiJFUzI1NiJ9.\(payload).DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    #expect(try CompactJWS.verify(ecToken, keys: ec.keys, types: [nil]).count == 70)
    // The vector of RFC 7515 A.2, which does not have the key's thumbprint.
    let rsa = try JSONWebKeySet(
      json:
        #"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#
        .utf8)
    let rsaToken =
      "eyJhbGciOiJSUzI1NiJ9.\(payload).cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    #expect(try CompactJWS.verify(rsaToken, keys: rsa.keys, types: [nil]).count == 70)
    #expect(throws: TokenRefusal.badSignature) {
      try CompactJWS.verify(
        String(rsaToken.dropLast(4)) + "AAAA", keys: rsa.keys, types: [nil])
    }
  }
}
