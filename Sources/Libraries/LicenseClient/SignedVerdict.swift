import JSONText
import Licensing
import Metering

/// A verdict that the service has signed, read from a payload with a verified signature. Times are
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

  /// Returns nil if a required member is missing or has another type.
  init?(payload: [UInt8]) {
    // A payload that is not JSON is not a verdict.
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

  /// Whether the verdict is about the license and applies to every domain.
  var concernsEveryDomain: Bool {
    switch Verdict.Code(rawValue: code) {
    case .invalidSignature, .notFound, .canceled, .suspended, .expired: !isValid
    case .notYetValid, .domainMismatch, .limitExceeded, .grace, .valid, nil: false
    }
  }

  /// The first moment at which the license reaches an end that the verdict does not include yet.
  /// Nil if there is none.
  var ends: Int64? {
    guard isValid, let expiresAt else { return nil }
    return isInGrace ? expiresAt + Verdict.graceMilliseconds : expiresAt
  }
}
