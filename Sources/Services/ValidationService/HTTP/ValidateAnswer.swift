import JSONText
import Licensing
import Metering

/// The body of an answer, with its signature.
enum ValidateAnswer {
  /// - Parameters:
  ///   - licenseKey: the key as it was sent. The answer contains its hash, so that nobody in
  ///     between can change the question.
  ///   - domain: the requested domain, for the same reason.
  ///   - terms: the terms of a known license.
  ///   - now: milliseconds since 1970.
  /// - Returns: nil if nothing can be signed, because the system has no randomness.
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
    // The signature covers the document up to here, with its closing brace.
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
