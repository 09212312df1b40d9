import JSONText

@testable import Licensing

/// Key sets, and which of their keys are used: `keysets.json`.
enum KeySetVectors {
  private static let ed = VectorKeys.edDSA.jwk
  private static let ec = VectorKeys.es256.jwk
  private static let rsa = VectorKeys.rs256.jwk

  private static var sets: [String] {
    [
      "", "{}", "[]", "null", #"{"keys":{}}"#, #"{"keys":[]}"#, #"{"keys":[],"keys":[]}"#,
      #"{"keys":[5]}"#, #"{"keys":[{}]}"#, #"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
      #"{"keys":[{"kty":"OKP","crv":"X25519","x":"AAAA"},\#(ed)]}"#,
      #"{"keys":[{"kty":"EC","crv":"P-384","x":"AAAA"},\#(ed)]}"#,
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#, #"{"keys":[{"kty":"EC"}]}"#,
      #"{"keys":[\#(ed)]}"#, #"{"keys":[\#(ed),\#(ec),\#(rsa)]}"#, #"{"keys":[\#(ed),\#(ed)]}"#,
      #"{"keys":[\#(ed),\#(VectorKeys.stranger.jwk)]}"#,
      #"{"keys":[\#(ed),\#(VectorKeys.sharedEC.jwk)]}"#,
      #"{"keys":[\#(ed.replacing(#""use":"sig""#, with: #""use":"enc""#)),\#(ec)]}"#,
      #"{"keys":[\#(ed.replacing(#""use":"sig""#, with: #""use":5"#))]}"#,
      #"{"keys":[\#(ed.replacing(#""use":"sig""#, with: #""key_ops":["verify"]"#))]}"#,
      #"{"keys":[\#(ed.replacing(#""use":"sig""#, with: #""key_ops":["encrypt"]"#))]}"#,
      #"{"keys":[\#(ed.replacing(#""alg":"EdDSA""#, with: #""alg":"Ed25519""#))]}"#,
      #"{"keys":[\#(ed.replacing(#""alg":"EdDSA""#, with: #""alg":"ES256""#))]}"#,
      #"{"keys":[\#(ed.replacing(#""alg":"EdDSA""#, with: #""alg":"Ed448""#))]}"#,
      #"{"keys":[\#(ed.replacing(#""alg":"EdDSA","#, with: ""))]}"#,
      #"{"keys":[\#(ed.replacing(#""purpose":"license","#, with: ""))]}"#,
      #"{"keys":[\#(ed.replacing(#""license""#, with: #""other""#)),\#(ec)]}"#,
      #"{"keys":[\#(ed.replacing(#""license""#, with: "5"))]}"#,
      #"{"keys":[\#(ed.replacing(#""ed-1""#, with: "5"))]}"#,
      #"{"keys":[\#(ed.replacing(#""ed-1""#, with: #""""#))]}"#,
      #"{"keys":[\#(ed.replacing(#""kid":"ed-1","#, with: ""))]}"#,
      #"{"keys":[\#(ed.replacing(#""kty":"OKP""#, with: #""kty":"OKP","kty":"OKP""#))]}"#,
      #"{"keys":[\#(ec.replacing(#""y":""#, with: #""y":"AAAA"#))]}"#,
      #"{"keys":[\#(ec.replacing(#""x":"\#(member("x", ec))""#, with: #""x":"\#(member("y", ec))""#))]}"#,
      #"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
      #"{"keys":[\#(rsa.replacing(#""AQAB""#, with: #""AQ==""#))]}"#,
      #"{"keys":[\#(repeatElement(ed, count: 101).joined(separator: ","))]}"#,
    ]
  }

  private static func member(_ name: String, _ jwk: String) -> String {
    (try? JSONReader.parse(Array(jwk.utf8)))?.members?[name]?.text ?? ""
  }

  static func write(to file: inout VectorFile) {
    for set in sets {
      file.add(nil) { json in
        json.member("set", set)
        do throws(JSONWebKey.Invalid) {
          let keys = try JSONWebKeySet(json: set.utf8)
          json.name("keys")
          json.beginArray()
          for key in keys.keys {
            json.text("\(key.keyID) \(key.algorithm.rawValue) \(key.purpose.rawValue)")
          }
          json.endArray()
        } catch {
          json.member("invalid", true)
        }
      }
    }
  }
}
