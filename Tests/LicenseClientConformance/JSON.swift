import JSONText
import LicenseClient
import Licensing
import Metering

/// A line from the runner, or an object within one.
struct Question {
  private let members: [JSONMember]

  init(_ line: String) throws {
    guard let members = try JSONReader.parse(Array(line.utf8)).members else {
      throw Driver.Failure(description: "the line is no object")
    }
    self.members = members
  }

  private init(_ members: [JSONMember]) { self.members = members }

  /// A text with unpaired surrogates becomes one that no name may have.
  func optional(_ name: String) -> String? {
    guard case .string(let string) = members[name] else { return nil }
    return String(decoding: string.bytes, as: UTF8.self)
  }

  func text(_ name: String) -> String { optional(name) ?? "" }
  func texts(_ name: String) -> [String] { members[name]?.elements?.compactMap(\.text) ?? [] }
  func integer(_ name: String) -> Int64? { members[name]?.integer }
  func boolean(_ name: String) -> Bool { members[name]?.boolean ?? false }
  func object(_ name: String) -> Question { Question(members[name]?.members ?? []) }

  func decimal(_ name: String) -> Double? {
    guard case .number(let digits) = members[name] else { return nil }
    return Double(digits)
  }
}

/// The driver's answers.
enum JSON {
  static let empty = Array("{}".utf8)

  static func object(_ write: (inout JSONWriter) -> Void) -> [UInt8] {
    var json = JSONWriter()
    json.beginObject()
    write(&json)
    json.endObject()
    return json.bytes
  }

  static func result(_ result: LicenseResult) -> [UInt8] {
    object { json in
      json.member("valid", result.isValid)
      json.member("code", result.code)
      json.member("source", result.source.rawValue)
      json.member("age", result.age.components.seconds)
      json.member("features", result.features.names)
      json.member("grace", result.isInGrace)
      json.name("problem")
      if let problem = result.problem { json.text(problem) } else { json.null() }
    }
  }

  static func statistics(_ statistics: UsageStatistics, isFlushed: Bool? = nil) -> [UInt8] {
    object { json in
      if let isFlushed { json.member("flushed", isFlushed) }
      json.name("statistics")
      json.beginObject()
      json.member("accepted", Int64(statistics.accepted))
      json.member("sent", Int64(statistics.sent))
      json.member("rejected", Int64(statistics.rejected))
      json.member("dropped", Int64(statistics.dropped))
      json.member("pending", Int64(statistics.pending))
      json.endObject()
    }
  }

  static func claims(_ claims: LicenseClaims) -> [UInt8] {
    object { json in
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
      json.member("trial", claims.isTrial)
      if let notBefore = claims.notBefore { json.member("notBefore", notBefore) }
    }
  }

  static func refusal(_ refusal: TokenRefusal) -> [UInt8] {
    object { json in
      json.member("refusal", refusal.code)
      if case .badClaims(let claim) = refusal { json.member("claim", claim.rawValue) }
    }
  }
}
