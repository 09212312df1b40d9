import Crypto
import Foundation
import MeteringTestKit
import Testing
import WebhookDelivery

@Suite struct SigningTests {
  @Test("A signature is the one that the specification's example gives")
  func vector() throws {
    // The example of the Standard Webhooks reference implementations.
    let secret = try SigningSecret(text: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    let header = WebhookSignature.header(
      id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestampSeconds: 1_614_265_330,
      body: Array(#"{"test": 2432232314}"#.utf8), secrets: [secret])
    #expect(header == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
  }

  @Test("While a secret rotates, each secret signs, the newest first")
  func rotation() throws {
    let old = try SigningSecret(scheme: .v1, bytes: Array(repeating: 1, count: 32))
    let new = try SigningSecret(scheme: .v1, bytes: Array(repeating: 2, count: 32))
    func header(_ secrets: [SigningSecret]) -> String {
      WebhookSignature.header(id: "msg_1", timestampSeconds: 1, body: [1, 2], secrets: secrets)
    }
    #expect(header([new, old]) == header([new]) + " " + header([old]))
  }

  @Test("An Ed25519 endpoint is given the public key, which verifies its signatures")
  func ed25519() throws {
    let secret = try SigningSecret(scheme: .v1a, bytes: Array(0..<32))
    #expect(secret.verifier.hasPrefix("whpk_"))
    #expect(!secret.verifier.contains(secret.text.dropFirst(5)))
    let header = WebhookSignature.header(
      id: "a", timestampSeconds: 1, body: [0x62], secrets: [secret])
    #expect(header.hasPrefix("v1a,"))
    let signature = try #require(Data(base64Encoded: String(header.dropFirst(4))))
    let published = try #require(Data(base64Encoded: String(secret.verifier.dropFirst(5))))
    let key = try Curve25519.Signing.PublicKey(rawRepresentation: published)
    #expect(key.isValidSignature(signature, for: Data("a.1.b".utf8)))
    #expect(!key.isValidSignature(signature, for: Data("a.2.b".utf8)))
  }

  @Test(
    "Secrets of 24 to 64 bytes are accepted, and others are refused",
    arguments: [0, 23, 24, 32, 64, 65])
  func lengths(_ count: Int) throws {
    let made = try? SigningSecret(scheme: .v1, bytes: Array(repeating: 7, count: count))
    #expect((made != nil) == (24...64).contains(count))
    if let made { #expect(try SigningSecret(text: made.text) == made) }
  }

  @Test(
    "A secret that is not what the specification says is refused",
    arguments: [
      "", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_***",
      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
      "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ 9r8GKYqrTwjUPD8ILPZIo2LaLaS",
    ])
  func badSecrets(_ text: String) {
    #expect(throws: SigningSecret.Invalid.self) { try SigningSecret(text: text) }
  }

  @Test("A secret's description never holds the secret")
  func redacted() throws {
    let secret = try SigningSecret(text: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    #expect(!"\(secret)".contains("MfKQ"))
  }

  @Test("A sealed secret opens only with the same key and endpoint, and not with a byte flipped")
  func sealing() throws {
    var random = SeededRandom(of: "sealing")
    let box = try SecretBox(base64Key: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    let other = try SecretBox(base64Key: "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    let secret = try SigningSecret(scheme: .v1, bytes: random.bytes(32))
    let sealed = try box.seal(secret, endpoint: "ep_1", nonce: random.bytes(12))
    #expect(try box.open(sealed, endpoint: "ep_1") == secret)
    #expect(throws: SecretBox.Invalid.self) { try box.open(sealed, endpoint: "ep_2") }
    #expect(throws: SecretBox.Invalid.self) { try other.open(sealed, endpoint: "ep_1") }
    for i in sealed.indices {
      var broken = sealed
      broken[i] ^= 1
      #expect(throws: SecretBox.Invalid.self) { try box.open(broken, endpoint: "ep_1") }
      #expect(throws: SecretBox.Invalid.self) {
        try box.open(Array(sealed[..<i]), endpoint: "ep_1")
      }
    }
  }

  @Test("The first of several keys seals, and every key opens")
  func severalKeys() throws {
    let old = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    let new = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    let secret = try SigningSecret(scheme: .v1, bytes: Array(0..<32))
    let both = try SecretBox(base64Key: "\(new),\(old)")
    let byOld = try SecretBox(base64Key: old).seal(
      secret, endpoint: "ep", nonce: Array(0..<12))
    #expect(try both.openFindingKey(byOld, endpoint: "ep").isFirstKey == false)
    let byBoth = try both.seal(secret, endpoint: "ep", nonce: Array(0..<12))
    #expect(try both.openFindingKey(byBoth, endpoint: "ep").isFirstKey)
    #expect(try SecretBox(base64Key: new).open(byBoth, endpoint: "ep") == secret)
  }

  @Test(
    "A key that is not 32 bytes in base64 is refused",
    arguments: [
      "", "x", "AAAA", "no key at all", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,", ",",
      "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,AAAA",
    ])
  func badKeys(_ key: String) {
    #expect(throws: SecretBox.Invalid.self) { try SecretBox(base64Key: key) }
  }

  @Test("The body has its fields in order, without blanks, and strings stay what they are")
  func body() {
    let body = WebhookBody.make(
      id: "msg_1", timestamp: "2026-11-23T18:40:00Z", type: "license.expired",
      data: #"{"a": "b \" : , c\\", "n": [1, 2]}"#)
    #expect(
      String(decoding: body, as: UTF8.self)
        == #"{"id":"msg_1","timestamp":"2026-11-23T18:40:00Z","event":"license.expired","type":"license.expired","data":{"a":"b \" : , c\\","n":[1,2]}}"#
    )
  }
}
