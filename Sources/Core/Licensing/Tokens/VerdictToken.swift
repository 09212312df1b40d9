import Crypto
import FoundationEssentials
import JSONText
import Metering

/// Signs answers of the validation service with a separate key.
public struct VerdictSigner: Sendable {
  private let signer: CompactJWS.Signer

  /// Returns nil if the set has no private key for verdicts.
  public init?(keys: JSONWebKeySet) {
    guard let key = keys.signingKey(for: .verdict),
      let signer = CompactJWS.Signer(key: key, type: "verdict+jwt")
    else { return nil }
    self.signer = signer
  }

  /// A compact JWS over `answer`, in ASCII. Nil if the system has no randomness.
  public func sign(_ answer: [UInt8]) -> [UInt8]? { signer.sign(answer) }
}

/// The question of a client. An answer is accepted only if it repeats all of it.
public struct VerdictQuestion: Sendable {
  /// The key as it was sent.
  public var licenseKey: String
  /// The domain that was sent. It is nil if that was neither a domain name nor an address.
  public var domain: DomainName?
  /// The nonce as it was sent.
  public var nonce: String

  /// Makes a question from the client's own texts.
  public init(licenseKey: String, domain: DomainName?, nonce: String) {
    self.licenseKey = licenseKey
    self.domain = domain
    self.nonce = nonce
  }

  /// The answer's `licenseKeyHash`: SHA-256 of the key's bytes, in base64url without padding.
  package static func hash(ofLicenseKey key: String) -> String {
    var key = key
    return Base64URL.encode(Array(key.withUTF8 { SHA256.hash(data: $0) }))
  }
}

/// Verifies that an answer comes from the service and that it answers this question. Clients use
/// it.
public struct VerdictVerifier: Sendable {
  private let keys: [JSONWebKey]

  /// - Parameter keys: the keys of `/.well-known/jwks.json`. Those with purpose `verdict` are used.
  public init(keys: JSONWebKeySet) {
    self.keys = keys.keys.filter { $0.purpose == .verdict }.map(\.publicKey)
  }

  /// Why an answer is not accepted.
  public enum Refusal: Error, Sendable, Equatable {
    case token(TokenRefusal)
    /// It is the answer to another question, so it may have been captured and replayed.
    case otherNonce
    /// It is about another license key or domain, so the question was changed on the way.
    case otherQuestion
    /// Its timestamp is missing, or further from `now` than tolerated.
    case stale
  }

  /// - Parameters:
  ///   - signature: the answer's member `signature`.
  ///   - question: the question that was sent.
  ///   - now: the time in milliseconds since 1970.
  ///   - tolerance: by how many milliseconds the clocks may differ, and how old the answer may be.
  /// - Returns: the signed answer as JSON. Only this may be trusted, not the members beside the
  ///   signature.
  public func verify(
    signature: String, question: VerdictQuestion, now: Int64, tolerance: Int64 = 300_000
  ) throws(Refusal) -> [UInt8] {
    let (payload, members) = try signed(signature)
    guard members.repeatedName == nil, members["nonce"]?.isText(question.nonce) == true
    else { throw .otherNonce }
    try Self.check(members, licenseKey: question.licenseKey, domain: question.domain)
    guard let time = Self.time(members), time >= now - tolerance, time <= now + tolerance
    else { throw .stale }
    return payload
  }

  /// Verifies an answer that is read back from a cache and was verified when it arrived. Its nonce
  /// and its age are not checked.
  package func verifySaved(
    signature: String, licenseKey: String, domain: DomainName
  ) throws(Refusal) -> [UInt8] {
    let (payload, members) = try signed(signature)
    guard members.repeatedName == nil else { throw .otherQuestion }
    try Self.check(members, licenseKey: licenseKey, domain: domain)
    guard Self.time(members) != nil else { throw .stale }
    return payload
  }

  /// The time at which the service signed an answer to any question, in milliseconds since 1970.
  /// Nil if the service did not sign it.
  package func signedTime(_ signature: String) -> Int64? {
    // The reason why it is not accepted does not matter.
    (try? signed(signature)).flatMap { Self.time($0.members) }
  }

  private func signed(
    _ signature: String
  ) throws(Refusal) -> (payload: [UInt8], members: [JSONMember]) {
    let payload: [UInt8]
    do throws(TokenRefusal) {
      payload = try CompactJWS.verify(signature, keys: keys, types: ["verdict+jwt"])
    } catch {
      throw .token(error)
    }
    // A text that is not an object has no nonce.
    return (payload, (try? JSONReader.parse(payload))?.members ?? [])
  }

  private static func check(
    _ members: [JSONMember], licenseKey: String, domain: DomainName?
  ) throws(Refusal) {
    let hash = VerdictQuestion.hash(ofLicenseKey: licenseKey)
    let domain = domain?.description
    guard members["licenseKeyHash"]?.isText(hash) == true,
      domain.map({ members["domain"]?.isText($0) == true }) ?? (members["domain"] == .null)
    else { throw .otherQuestion }
  }

  private static func time(_ members: [JSONMember]) -> Int64? {
    members["timestamp"]?.text.flatMap(UTCTime.milliseconds)
  }
}

extension JSONValue {
  /// Whether the value is this text, byte by byte.
  fileprivate func isText(_ text: String) -> Bool {
    if case .string(let string) = self { string.equals(text) } else { false }
  }
}
