import JSONText
import Metering

@testable import Licensing

/// License tokens, and what the library says about each: `licenses.json`.
enum LicenseVectors {
  struct Case {
    var name: String
    var keys = "all"
    var token: String
  }

  static let payload =
    #"{"sub":"lic_abc123","domain":"example.com","plan":"professional","#
    + #""features":["analytics","webhooks"],"limits":{"apiCalls":50000,"seats":10},"#
    + #""iat":1711929600,"exp":1743465600}"#

  static func token(
    _ header: String, _ payload: String = payload, by signer: VectorKeys.Signer = VectorKeys.edDSA
  ) -> String {
    let input = Base64URL.encode(header.utf8) + "." + Base64URL.encode(payload.utf8)
    return input + "." + Base64URL.encode(signer.sign(Array(input.utf8)))
  }

  static let header = #"{"alg":"EdDSA","kid":"ed-1","typ":"license+jwt"}"#
  static let good = token(header)

  static var cases: [Case] {
    accepted + headers + strangers + forms + signatures + claims + numbers
  }

  private static var accepted: [Case] {
    let es = #"{"alg":"ES256","kid":"ec-1","typ":"license+jwt"}"#
    let rs = #"{"alg":"RS256","kid":"rsa-1","typ":"license+jwt"}"#
    return [
      Case(name: "EdDSA", token: good),
      Case(name: "ES256", token: token(es, by: VectorKeys.es256)),
      Case(name: "RS256", token: token(rs, by: VectorKeys.rs256)),
      Case(
        name: "an older key after a rotation",
        token: token(#"{"alg":"EdDSA","kid":"ed-0"}"#, by: VectorKeys.older)),
      Case(
        name: "an older key that was taken away", keys: "rotated",
        token: token(#"{"alg":"EdDSA","kid":"ed-0"}"#, by: VectorKeys.older)),
      Case(name: "no typ", token: token(#"{"alg":"EdDSA","kid":"ed-1"}"#)),
      Case(name: "typ JWT", token: token(#"{"alg":"EdDSA","kid":"ed-1","typ":"JWT"}"#)),
      Case(
        name: "typ with application/",
        token: token(#"{"alg":"EdDSA","kid":"ed-1","typ":"application/License+JWT"}"#)),
      Case(name: "the name Ed25519", token: token(#"{"alg":"Ed25519","kid":"ed-1"}"#)),
      Case(name: "no kid, one key", keys: "one", token: token(#"{"alg":"EdDSA"}"#)),
      Case(name: "no kid, several keys of the algorithm", token: token(#"{"alg":"EdDSA"}"#)),
      Case(
        name: "no kid, one key of the algorithm among several", keys: "shared",
        token: token(#"{"alg":"ES256"}"#, by: VectorKeys.sharedEC)),
      Case(
        name: "one kid, two algorithms, the first", keys: "shared",
        token: token(#"{"alg":"EdDSA","kid":"ed-1"}"#)),
      Case(
        name: "one kid, two algorithms, the second", keys: "shared",
        token: token(#"{"alg":"ES256","kid":"ed-1"}"#, by: VectorKeys.sharedEC)),
      Case(
        name: "a key without kid is known by its thumbprint", keys: "unnamed",
        token: token(
          #"{"alg":"EdDSA","kid":"\#(VectorKeys.keys("unnamed").keys.first?.keyID ?? "")"}"#)),
      Case(
        name: "a key that the token brings is not looked at",
        token: token(
          #"{"alg":"EdDSA","kid":"ed-1","jwk":{"kty":"oct","k":"AAAA"},"jku":"https://x.example"}"#
        )),
      Case(
        name: "blanks and unknown members",
        token: token(
          " { \"alg\" : \"EdDSA\",\t\"kid\":\"ed-1\", \"x\": [1, {\"y\": null}] }\n",
          " { \"sub\": \"lic_1\", \"iat\": 1, \"exp\": 2, \"unknown\": {\"a\": [1.5, null]} } ")),
    ]
  }

  private static var headers: [Case] {
    [
      #"{"alg":"none","kid":"ed-1"}"#, #"{"alg":"None"}"#, #"{"alg":"nOnE"}"#, #"{"alg":""}"#,
      #"{"alg":"HS256","kid":"ed-1"}"#, #"{"alg":"HS512"}"#, #"{"alg":"PS256","kid":"rsa-1"}"#,
      #"{"alg":"ES256K"}"#, #"{"alg":"eddsa","kid":"ed-1"}"#, #"{"alg":"ed25519","kid":"ed-1"}"#,
      #"{"alg":"ES256","kid":"ed-1"}"#, #"{"alg":"RS256","kid":"ed-1"}"#,
      #"{"alg":"Ed25519","kid":"ec-1"}"#, #"{"alg":["EdDSA"],"kid":"ed-1"}"#, #"{"alg":null}"#,
      #"{"alg":5}"#, #"{"kid":"ed-1"}"#, #"{}"#, #"{"alg":"none","alg":"EdDSA","kid":"ed-1"}"#,
      #"{"alg":"EdDSA","kid":"ed-0","kid":"ed-1"}"#, #"["EdDSA"]"#, "", "null", #""EdDSA""#,
      #"{"alg":"EdDSA","kid":"ed-1"} "x""#, #"{"alg":"EdDSA","kid":"ed-1",}"#,
      #"{"alg":"EdDSA","kid":"ed-1","crit":["exp"],"exp":1}"#,
      #"{"alg":"EdDSA","kid":"ed-1","crit":[]}"#, #"{"alg":"EdDSA","kid":"ed-1","crit":null}"#,
      #"{"alg":"EdDSA","kid":"ed-1","b64":false,"crit":["b64"]}"#,
      #"{"alg":"EdDSA","kid":"ed-1","b64":true}"#,
      #"{"alg":"EdDSA","kid":"ed-1","typ":"verdict+jwt"}"#,
      #"{"alg":"EdDSA","kid":"ed-1","typ":"at+jwt"}"#, #"{"alg":"EdDSA","kid":"ed-1","typ":5}"#,
      #"{"alg":"EdDSA","kid":"ed-1","typ":""}"#, #"{"alg":"EdDSA","kid":"ed-1","typ":null}"#,
      #"{"alg":"EdDSA","kid":"other"}"#, #"{"alg":"EdDSA","kid":""}"#,
      #"{"alg":"EdDSA","kid":"../../dev/null"}"#, #"{"alg":"EdDSA","kid":["ed-1"]}"#,
      #"{"alg":"EdDSA","kid":null}"#, #"{"alg":"EdDSA","kid":"ED-1"}"#,
      #"{"alg":"EdDSA","kid":"\#(String(repeating: "k", count: 257))"}"#,
      #"{"alg":"EdDSA","kid":"ed-1","x":"\ud800"}"#, #"{"alg":"EdDSA","kid":"ed-1\ud800"}"#,
      "\u{FEFF}" + #"{"alg":"EdDSA","kid":"ed-1"}"#, #"{"alg":"EdDSA","kid":"ed-1","x":01}"#,
      #"{"alg":"EdDSA","kid":"ed-1","x":NaN}"#,
      "{\"alg\":\"EdDSA\",\"kid\":\"ed-1\",\"x\":\"\u{1}\"}",
      "{'alg':'EdDSA','kid':'ed-1'}",
      #"{"alg":"EdDSA","kid":"ed-1"}"#,
    ].map { Case(name: "header \($0.prefix(60))", token: token($0)) }
  }

  private static var strangers: [Case] {
    let verdictHeader = #"{"alg":"EdDSA","kid":"v-1"}"#
    let strangerJWK = VectorKeys.stranger.jwk
    return [
      Case(name: "a stranger's key with our kid", token: token(header, by: VectorKeys.stranger)),
      Case(
        name: "a stranger's key that the token brings", keys: "one",
        token: token(#"{"alg":"EdDSA","jwk":\#(strangerJWK)}"#, by: VectorKeys.stranger)),
      Case(
        name: "a key of verdicts makes no licenses",
        token: token(verdictHeader, by: VectorKeys.verdict)),
      Case(name: "another key of the set", token: token(header, by: VectorKeys.older)),
      Case(name: "no keys at all", keys: "empty", token: good),
    ]
  }

  private static var forms: [Case] {
    let parts = good.split(separator: ".").map(String.init)
    let (head, body, signature) = (parts[0], parts[1], parts[2])
    return [
      ("empty", ""), ("one dot", "."), ("two dots", ".."), ("three dots", "..."),
      ("two parts", "\(head).\(body)"), ("no signature", "\(head).\(body)."),
      ("four parts", good + ".AA"), ("a trailing dot", good + "."), ("padding", good + "="),
      ("a line break", good + "\n"), ("a leading blank", " " + good), ("Bearer", "Bearer " + good),
      ("base64 and not base64url", "\(head).\(body).+/" + signature.dropFirst(2)),
      ("a letter beyond ASCII", "\(head).\(body).é" + signature.dropFirst(1)),
      ("bits behind the last byte", "\(head).\(body).\(signature.dropLast())B"),
      ("a JSON serialization", #"{"payload":"e30","signatures":[]}"#),
      ("longer than 8 KiB", String(repeating: "a", count: 8_193)),
      ("8 KiB of letters", String(repeating: "a", count: 8_192)),
      (
        "8 KiB of a signed token", token(header, payload + String(repeating: " ", count: 5_816))
      ),
      (
        "a byte more than 8 KiB of a signed token",
        token(header, payload + String(repeating: " ", count: 6_000))
      ),
      ("the license's id", "lic_abc123"), ("another header", "e30.\(body).\(signature)"),
      ("another payload", "\(head).e30.\(signature)"),
    ].map { Case(name: "form: \($0.0)", token: $0.1) }
  }

  private static var signatures: [Case] {
    let input = good.split(separator: ".").prefix(2).joined(separator: ".")
    let es = token(#"{"alg":"ES256","kid":"ec-1"}"#, by: VectorKeys.es256)
    let esInput = es.split(separator: ".").prefix(2).joined(separator: ".")
    let rs = token(#"{"alg":"RS256","kid":"rsa-1"}"#, by: VectorKeys.rs256)
    let rsInput = rs.split(separator: ".").prefix(2).joined(separator: ".")
    let zero = [UInt8](repeating: 0, count: 32)
    let order: [UInt8] = [
      0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC,
      0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ]
    func ecdsa(_ name: String, _ signature: [UInt8]) -> Case {
      Case(name: "ES256 signature: \(name)", token: esInput + "." + Base64URL.encode(signature))
    }
    return [
      Case(name: "EdDSA of zeros", token: input + "." + Base64URL.encode(zero + zero)),
      Case(
        name: "EdDSA of 63 bytes", token: input + "." + Base64URL.encode(zero + zero.dropLast())),
      ecdsa("zeros", zero + zero), ecdsa("the order", order + order), ecdsa("empty", []),
      ecdsa("32 bytes", zero), ecdsa("DER", [0x30, 0x06, 2, 1, 1, 2, 1, 1]),
      Case(
        name: "RS256 signature of zeros",
        token: rsInput + "." + Base64URL.encode([UInt8](repeating: 0, count: 256))),
      Case(name: "RS256 signature of 32 bytes", token: rsInput + "." + Base64URL.encode(zero)),
      Case(name: "RS256 without a signature", token: rsInput + "."),
    ]
  }

  private static var claims: [Case] {
    [
      (#""lic_abc123""#, "5"), (#""lic_abc123""#, "null"), (#""lic_abc123""#, #""""#),
      (#""lic_abc123""#, #""\ud800""#), (#""lic_abc123""#, #""a\u0000b""#),
      (#""lic_abc123""#, #""a\u007fb""#), (#""sub":"lic_abc123","#, ""),
      (#""lic_abc123""#, #""\#(String(repeating: "s", count: 512))""#),
      (#""lic_abc123""#, #""\#(String(repeating: "s", count: 513))""#),
      (#""lic_abc123""#, #""M\u00fcller \ud83d\ude00""#), (#""lic_abc123""#, #""Mu\u0308ller""#),
      (#""iat":1711929600,"#, ""), (#""exp":1743465600"#, #""x":1"#),
      (#"1743465600"#, #""1743465600""#), ("1743465600", "null"), ("1743465600", "true"),
      ("1743465600", #"1743465600,"exp":1843465600"#), ("1743465600", "1711929600"),
      ("1743465600", "1711929599.999"), ("1743465600", "-1"),
      ("1743465600", #"1743465600,"nbf":"1""#), ("1743465600", #"1743465600,"nbf":null"#),
      ("1743465600", #"1743465600,"trial":1"#), ("1743465600", #"1743465600,"trial":null"#),
      ("1743465600", #"1743465600,"trial":true"#), ("1743465600", #"1743465600,"nbf":1711930000"#),
      (#""example.com""#, #"["example.com"]"#), (#""example.com""#, "null"),
      (#""example.com""#, #""""#), (#""domain":"example.com","#, ""),
      (#""domain":"example.com""#, #""domains":"example.com""#),
      (#""domain":"example.com""#, #""domains":["b.example","example.com","b.example"]"#),
      (
        #""domain":"example.com""#,
        #""domain":"example.com","domains":["b.example","example.com"]"#
      ),
      (#""domain":"example.com""#, #""domains":[5]"#),
      (#""plan":"professional""#, #""plan":7"#), (#""plan":"professional""#, #""plan":"""#),
      (#""plan":"professional","#, ""), (#"["analytics","webhooks"]"#, "{}"),
      (#"["analytics","webhooks"]"#, "[1]"), (#"["analytics","webhooks"]"#, #"[""]"#),
      (
        #"["analytics","webhooks"]"#,
        "[\(repeatElement(#""a""#, count: 100).joined(separator: ","))]"
      ),
      (
        #"["analytics","webhooks"]"#,
        "[\(repeatElement(#""a""#, count: 101).joined(separator: ","))]"
      ),
      (#""features":["analytics","webhooks"],"#, ""), ("50000", "-5"), ("50000", "5.5"),
      ("50000", #""5""#), ("50000", "1e30"), ("50000", "9223372036854775808"),
      ("50000", "5e-400000000000000"), ("50000", #"5,"apiCalls":500"#), ("50000", "null"),
      (#"{"apiCalls":50000,"seats":10}"#, "[]"),
      (#"{"apiCalls":50000,"seats":10}"#, #"{"":1}"#), (payload, ""), (payload, "[]"),
      (payload, "null"), (payload, payload + payload), (payload, "{}"),
    ].map { old, new in
      Case(
        name: "claims: \(new.prefix(50)) for \(old == payload ? "all" : old)",
        token: token(header, payload.replacing(old, with: new)))
    }
  }

  private static var numbers: [Case] {
    [
      "1.9e9", "1900000000.0", "19E8", "1900000000.123456", "1900000000.0009", "1.9000000001e+9",
      "190000000000e-2", "253402300799.9999", "253402300800", "99999999999999999999",
      "1e999999999999999999999", "9.3e15", "1e-400", "1e400", "-0", "01900000000", "+1900000000",
      "1900000000.", ".19e10", "0x71414E00", "1_900_000_000", "Infinity",
    ].map { spelling in
      Case(
        name: "exp \(spelling)",
        token: token(
          header,
          #"{"sub":"lic_1","iat":1e0,"nbf":0.5,"exp":\#(spelling),"#
            + #""limits":{"apiCalls":50000.0,"seats":1e1,"calls":-0}}"#))
    }
  }

  static func write(to file: inout VectorFile) {
    for vector in cases {
      file.add(vector.name) { json in
        json.member("keys", vector.keys)
        json.member("token", vector.token)
        write(VectorKeys.keys(vector.keys), vector.token, to: &json)
      }
    }
  }

  /// Writes what the library says about the token.
  private static func write(_ keys: JSONWebKeySet, _ token: String, to json: inout JSONWriter) {
    do throws(TokenRefusal) {
      let claims = try LicenseVerifier(keys: keys).verify(token)
      json.name("claims")
      json.beginObject()
      json.member("licenseId", claims.licenseID.string)
      json.member("domains", claims.domains)
      json.member("plan", claims.plan)
      json.member("features", claims.features)
      json.name("limits")
      json.beginObject()
      for limit in claims.limits { json.member(limit.name, limit.quantity) }
      json.endObject()
      json.member("issuedAt", claims.issuedAt)
      json.member("expiresAt", claims.expiresAt)
      if let notBefore = claims.notBefore { json.member("notBefore", notBefore) }
      json.member("trial", claims.isTrial)
      json.endObject()
    } catch {
      json.member("refusal", error.code)
      if case .badClaims(let claim) = error { json.member("claim", claim.rawValue) }
    }
  }
}
