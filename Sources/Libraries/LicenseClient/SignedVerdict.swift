import JSONText
import Licensing
import Metering

/// What the service has signed, read from a payload whose signature was verified. Times are
/// milliseconds since 1970.
struct SignedVerdict: Sendable {
  var isValid: Bool
  var code: String
  var timestamp: Int64
  var licenseID: String
  var plan: String
  var features: [String]
  var limits: [LicenseClaims.Limit]
  var expiresAt: Int64?
  var isInGrace: Bool
  var isOverLimit: Bool
  var explanation: String?

  /// Nil where a member that decides is missing or of another type.
  init?(payload: [UInt8]) {
    // What is no JSON is no verdict.
    guard let members = (try? JSONReader.parse(payload))?.members, members.repeatedName == nil,
      let isValid = members["valid"]?.boolean, let code = members["code"]?.text,
      let timestamp = members["timestamp"]?.text.flatMap(UTCTime.milliseconds)
    else { return nil }
    self.isValid = isValid
    self.code = code
    self.timestamp = timestamp
    licenseID = members["licenseId"]?.text ?? ""
    plan = members["plan"]?.text ?? ""
    features = members["features"]?.elements?.compactMap(\.text) ?? []
    limits = (members["limits"]?.members ?? []).compactMap { member in
      guard let name = JSONValue.string(member.name).text,
        let quantity = member.value.number?.integer
      else { return nil }
      return LicenseClaims.Limit(name: name, quantity: quantity)
    }
    expiresAt = members["expiresAt"]?.text.flatMap(UTCTime.milliseconds)
    isInGrace = members["grace"]?.boolean ?? false
    isOverLimit = members["overLimit"]?.boolean ?? false
    explanation = members["error"]?.text
  }

  /// Whether it is about the license, whatever the domain that was asked for.
  var concernsEveryDomain: Bool {
    switch Verdict.Code(rawValue: code) {
    case .invalidSignature, .notFound, .canceled, .suspended, .expired: !isValid
    case .notYetValid, .domainMismatch, .limitExceeded, .grace, .valid, nil: false
    }
  }

  /// The first moment at which the license has reached an end that the verdict did not know of yet;
  /// nil where there is none.
  var ends: Int64? {
    guard isValid, let expiresAt else { return nil }
    return isInGrace ? expiresAt + Verdict.graceMilliseconds : expiresAt
  }
}
