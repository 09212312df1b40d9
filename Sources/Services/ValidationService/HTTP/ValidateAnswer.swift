import JSONText
import Licensing
import Metering

/// The body of an answer, and the signature over it.
enum ValidateAnswer {
  /// - Parameters:
  ///   - licenseKey: as it was sent; its hash is in the answer, so that nobody between can change
  ///     the question.
  ///   - domain: what was asked for, for the same reason.
  ///   - terms: of a license that is known.
  ///   - now: milliseconds since 1970.
  /// - Returns: nil where nothing can be signed: the system has no randomness.
  static func make(
    _ verdict: Verdict, _ terms: LicenseTerms?, licenseID: Identifier?, licenseKey: String,
    domain: DomainName?, nonce: String, now: Int64, signer: VerdictSigner
  ) -> [UInt8]? {
    var json = JSONWriter(reserving: 1_536)
    json.beginObject()
    json.member("valid", verdict.isValid)
    json.member("code", verdict.code.rawValue)
    optional("licenseId", licenseID?.string, &json)
    optional("plan", terms?.plan, &json)
    json.member("features", verdict.isValid ? terms?.features ?? [] : [])
    json.name("limits")
    json.beginObject()
    for limit in terms?.limits ?? [] { json.member(limit.name, limit.quantity) }
    json.endObject()
    optional("expiresAt", terms.map { UTCTime.text($0.expiresAt) }, &json)
    json.member("grace", verdict.code == .grace)
    json.member("overLimit", verdict.isOverLimit)
    if let explanation = verdict.explanation { json.member("error", explanation) }
    optional("domain", domain?.description, &json)
    json.member("licenseKeyHash", VerdictQuestion.hash(ofLicenseKey: licenseKey))
    json.member("nonce", nonce)
    json.member("timestamp", UTCTime.text(now))
    // What is signed is the document up to here, closed.
    var unsigned = json
    unsigned.endObject()
    guard let signature = signer.sign(unsigned.bytes) else { return nil }
    json.name("signature")
    json.quoted(signature)
    json.endObject()
    return json.bytes
  }

  private static func optional(_ name: String, _ value: String?, _ json: inout JSONWriter) {
    if let value {
      json.member(name, value)
    } else {
      json.name(name)
      json.null()
    }
  }
}
