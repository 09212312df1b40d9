import Crypto
import CryptoExtras
import Foundation

@testable import Licensing

/// The keys of the conformance vectors. They are fixed, published and worth nothing.
enum VectorKeys {
  /// Signs whatever it is given, even what none of our signers would sign.
  struct Signer: Sendable {
    /// The key as it appears in the set.
    let jwk: String
    let keyID: String
    let sign: @Sendable ([UInt8]) -> [UInt8]
  }

  static let edDSA = ed25519(seed: 1, purpose: "license", keyID: "ed-1")
  static let older = ed25519(seed: 2, purpose: "license", keyID: "ed-0")
  static let stranger = ed25519(seed: 3, purpose: "license", keyID: "ed-1")
  static let verdict = ed25519(seed: 4, purpose: "verdict", keyID: "v-1")
  static let otherVerdict = ed25519(seed: 5, purpose: "verdict", keyID: "v-0")
  static let es256 = p256(seed: 6, purpose: "license", keyID: "ec-1")
  static let sharedEC = p256(seed: 7, purpose: "license", keyID: "ed-1")
  static let rs256 = rsa(purpose: "license", keyID: "rsa-1")
  static let verdictEC = p256(seed: 8, purpose: "verdict", keyID: "v-ec")

  /// The key sets that the cases name in `keys`.
  static let sets: [(name: String, json: String)] = [
    ("all", set(edDSA, older, es256, rs256, verdict, otherVerdict, verdictEC)),
    ("rotated", set(edDSA, verdict)),
    ("one", set(edDSA)),
    ("shared", set(edDSA, sharedEC)),
    ("unnamed", #"{"keys":[\#(edDSA.jwk.replacing(#""kid":"ed-1","#, with: ""))]}"#),
    ("empty", #"{"keys":[]}"#),
  ]

  static func set(_ keys: Signer...) -> String {
    #"{"keys":[\#(keys.map(\.jwk).joined(separator: ","))]}"#
  }

  static func keys(_ name: String) -> JSONWebKeySet {
    // The sets above are well-formed, which a test checks.
    guard let json = sets.first(where: { $0.name == name })?.json,
      let keys = try? JSONWebKeySet(json: json.utf8)
    else { return JSONWebKeySet() }
    return keys
  }

  private static func ed25519(seed: UInt8, purpose: String, keyID: String) -> Signer {
    let seed = [UInt8](repeating: seed, count: 32)
    let key = made { try Curve25519.Signing.PrivateKey(rawRepresentation: seed) }
    let x = Base64URL.encode(key.publicKey.rawRepresentation)
    return Signer(
      jwk: #"{"kty":"OKP","crv":"Ed25519","kid":"\#(keyID)","alg":"EdDSA","use":"sig","#
        + #""purpose":"\#(purpose)","x":"\#(x)"}"#,
      keyID: keyID, sign: { input in made { Array(try key.signature(for: input)) } })
  }

  private static func p256(seed: UInt8, purpose: String, keyID: String) -> Signer {
    let seed = [UInt8](repeating: seed, count: 32)
    let key = made { try P256.Signing.PrivateKey(rawRepresentation: seed) }
    let point = Array(key.publicKey.rawRepresentation)
    return Signer(
      jwk: #"{"kty":"EC","crv":"P-256","kid":"\#(keyID)","alg":"ES256","use":"sig","#
        + #""purpose":"\#(purpose)","x":"\#(Base64URL.encode(point[..<32]))","#
        + #""y":"\#(Base64URL.encode(point[32...]))"}"#,
      keyID: keyID,
      sign: { input in made { Array(try key.signature(for: input).rawRepresentation) } })
  }

  private static func rsa(purpose: String, keyID: String) -> Signer {
    let key = made { try _RSA.Signing.PrivateKey(pemRepresentation: rsaPEM) }
    let numbers = made { try key.publicKey.getKeyPrimitives() }
    return Signer(
      jwk: #"{"kty":"RSA","kid":"\#(keyID)","alg":"RS256","use":"sig","purpose":"\#(purpose)","#
        + #""n":"\#(Base64URL.encode(numbers.modulus))","#
        + #""e":"\#(Base64URL.encode(numbers.publicExponent))"}"#,
      keyID: keyID,
      sign: { input in
        made {
          let digest = SHA256.hash(data: input)
          return Array(
            try key.signature(for: digest, padding: .insecurePKCS1v1_5).rawRepresentation)
        }
      })
  }

  /// Fixed keys are well-formed, and signing fails only if memory runs out.
  private static func made<T>(_ make: () throws -> T) -> T {
    do { return try make() } catch { fatalError("a fixed key: \(error)") }
  }

  private static let rsaPEM = """
    -----BEGIN RSA PRIVATE KEY-----
    MIIEpAIBAAKCAQEAut05kkDV8UI1Y6bI0mKQI18ubAvkgx/pKed4sZOn4prFOmUr
    RIrqy30KPm84mG6rH4pT5JjqhuhNcNW64X3wo4IgA+qaPb5byXPzhHF4Osn5iHVp
    IH1JOxiW/bzN7xH1w32Hf/isxgTfVC3QI1nEAPChOnwuo0mM0/i4EEzSNuonbxLX
    CQeb57uQ0UCAlE4Un5tl9qe56ewUebjqR6RoU2ZCAFnP/qGliab2bPTsCUh3wKt2
    SEo1bEZOLP0YcFC+zxUMskLAtXyHw8k9YKFE8ePken2P4jvqzc2VIZuipRtAObbs
    HMSdB6OXkcYH8vd/K6wfP/bAPnHdiYUzupONkwIDAQABAoIBAAsKw498O/2JAgqk
    x70sNy7qkvMDiOSkCsJ/0Rv9M7B/oM6gknv3EYTQxhLbvlETnme7ZCsKoOEz8k+L
    8a0deg4kxFY26MJj8JyTjiecuj65wgBpn7qxweq3Ze9nLBbHzZQDDkdmScoHGQNV
    FGA3umNWf3srQhOYEbWnlDOHtpb+s/3Z+Vlkm8BqKvFe2EY0s0qqfx1WvS8riq8K
    jl13eFjBJqjYq4cBm9zU9Ki/Hp3A1Oa55wGeTnCbwPAtUB64whVZv8WlVKT+AcDg
    4vgyfrCxAoKEi1eSmCNZ5jWIdLje3gjABvYZgJFOuDh7Mkfr30C5esVayeCmJylv
    DH+593ECgYEA46mbexZ0UqFiKtaTLLl87BW9s6EWYOOFASRp09cNOJDfSzXZ6El3
    Yzo+6Q4uWbgscZMtvuwqS39p1824elD1soGk4kjygGyVrCg5WisX1nBVuQyEVPde
    q+qmNJ2JPdC8Cby0XuIDLR0OT7n7Ne6waCtfH+FwzUMt030OMk0tRa0CgYEA0h+X
    Ou/vGHdcIQp3znmUSZapAQJfx2zcRB+utrggV+RzK+UeLZ+VgsyChxDgFfumqvBb
    iTTndPLA8urR10dEyKYHbSDsJmUE6HYmFiuGPnrgaYK/r0DZH0sF9RFb4o95ayH1
    TkoxgYjiTSPZzDa6KnwLMORvhkFKT0Pj8y+KCD8CgYEAhn+nSZrEciTB2EkYfe2/
    rcJSZpMeo3MHGtumYe7E8swz/zz7Vc5BaC/7BrjIDV1PdHHdLtRbUGsf3sy81haK
    cUFCZiVujwyXiDPjXi/jT17iZgbND11tYuen9aG0eP6eeKoxbXTdJ4Po9pULops3
    QPOOqUkI2Vt88VsKThFmU6kCgYEAm5Ep/UewpFOSkR/X7bVT1VvHCmlAkjyFo6Y1
    SzBtOcV4g5IhUrPpFKrnJKqYzY3AKqTDkITrrEkiE3dJHvKz+T37F4+dZxu5k4YN
    0rIstMtypItZ8Z24YpO/+F3+wnFo+qlsnacOmhHHQkd9s9T85gFqo6ss6qAiLSdd
    eCnFLy8CgYAhJmtMoNLn8xRDXSkvo0DTkm/3z6gI01DaWw8l418wO63GCsdsAFTQ
    ACzrgWTn3gLNH08qDfCDE7o1JnjBktd27ZklaBWvtiasbmwU/uzx/bvxCZRHcZgP
    ckuOeYa2Pi8vhJuS3gw1qyM25YeEz+fzO7egaOtIaZrrFDGzjHBVMQ==
    -----END RSA PRIVATE KEY-----
    """
}
