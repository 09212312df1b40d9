import Crypto
import FoundationEssentials
import JSONText
import Metering

/// Signs answers of the validation service, with a key of their own.
public struct VerdictSigner: Sendable {
  private let signer: CompactJWS.Signer

  /// Nil where the set has no private key for verdicts.
  public init?(keys: JSONWebKeySet) {
    guard let key = keys.signingKey(for: .verdict),
      let signer = CompactJWS.Signer(key: key, type: "verdict+jwt")
    else { return nil }
    self.signer = signer
  }

  /// A compact JWS over `answer`, in ASCII; nil where the system has no randomness.
  public func sign(_ answer: [UInt8]) -> [UInt8]? { signer.sign(answer) }
}

/// What a client asked for. An answer is believed only where it repeats all of it.
public struct VerdictQuestion: Sendable {
  /// The key as it was sent.
  public var licenseKey: String
  /// The domain that was sent. It is nil if that was no domain name or address.
  public var domain: DomainName?
  /// The nonce as it was sent.
  public var nonce: String

  /// A question, in the client's own words.
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

/// Verifies that an answer comes from the service, and that it answers this very question. Clients
/// use it.
public struct VerdictVerifier: Sendable {
  private let keys: [JSONWebKey]

  /// - Parameter keys: those with purpose `verdict` are used, as `/.well-known/jwks.json` answers
  ///   them.
  public init(keys: JSONWebKeySet) {
    self.keys = keys.keys.filter { $0.purpose == .verdict }.map(\.publicKey)
  }

  /// Why an answer is not believed.
  public enum Refusal: Error, Sendable, Equatable {
    case token(TokenRefusal)
    /// The answer to another question: a captured one, replayed.
    case otherNonce
    /// The answer about another license key or domain: somebody between changed the question.
    case otherQuestion
    /// Its timestamp is further from `now` than tolerated, or none.
    case stale
  }

  /// - Parameters:
  ///   - signature: the answer's member `signature`.
  ///   - question: what was sent.
  ///   - now: milliseconds since 1970.
  ///   - tolerance: milliseconds by which the clocks may differ, and the answer may be old.
  /// - Returns: the answer that was signed, JSON. It alone is to be believed, not the members
  ///   beside the signature.
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

  /// An answer that was verified when it came and is read back from a cache: to which nonce, and
  /// how long ago, says nothing then.
  package func verifySaved(
    signature: String, licenseKey: String, domain: DomainName
  ) throws(Refusal) -> [UInt8] {
    let (payload, members) = try signed(signature)
    guard members.repeatedName == nil else { throw .otherQuestion }
    try Self.check(members, licenseKey: licenseKey, domain: domain)
    guard Self.time(members) != nil else { throw .stale }
    return payload
  }

  /// When the service signed an answer, whatever it is the answer to, in milliseconds since 1970;
  /// nil where it is none of the service's.
  package func signedTime(_ signature: String) -> Int64? {
    // Why it is not believed makes no difference.
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
    // What is no object holds no nonce.
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
  /// Whether it is this text, byte by byte.
  fileprivate func isText(_ text: String) -> Bool {
    if case .string(let string) = self { string.equals(text) } else { false }
  }
}
