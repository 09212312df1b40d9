import JSONText
import Metering

/// The checked body of `POST /v1/licenses/validate`.
struct ValidateRequest: Sendable {
  static let maximumBytes = 65_536
  /// Seven members are known. The rest is for unknown members.
  private static let maximumValues = 256

  var licenseKey: String
  var domain: String
  var nonce: String?
  var meter = "api_calls"
  var quantity: Int64 = 1
  /// Whether the request states usage. Only callers that may write usage may do that.
  var hasUsage = false

  var idempotentUsage: IdempotencyKeys.Usage {
    IdempotencyKeys.Usage(meter: Identifier(meter), quantity: quantity)
  }

  /// - Parameter maximumQuantity: the largest quantity that counts.
  /// - Throws: `Problem` with status 400.
  init(_ body: [UInt8], maximumQuantity: Int64) throws {
    let value: JSONValue
    do {
      value = try JSONReader.parse(body, maximumValues: Self.maximumValues)
    } catch  where error.reason == .tooManyValues {
      throw Problem.badRequest(
        "bad_request", "The body may have at most \(Self.maximumValues) values.")
    } catch {
      throw Problem.badRequest("not_json", "The body is not JSON: \(error).")
    }
    guard let members = value.members else {
      throw Problem.badRequest("bad_request", "The body must be a JSON object.")
    }
    if members.repeatedName != nil {
      throw Problem.badRequest("bad_request", "The body has the same member twice.")
    }
    licenseKey = try Self.identifier(members, "licenseKey", 1...8_192)
    domain = try Self.text(members, "domain", 1...1_024)
    if let value = members["nonce"], value != .null {
      let text = try Self.text(members, "nonce", 8...128)
      guard text.utf8.allSatisfy({ $0 < 0x80 }) else {
        throw Problem.badRequest("bad_request", "nonce must be printable ASCII.")
      }
      nonce = text
    }
    if let value = members["usage"], value != .null {
      try readUsage(value, maximumQuantity)
      hasUsage = true
    }
  }

  private mutating func readUsage(_ value: JSONValue, _ maximumQuantity: Int64) throws {
    guard let members = value.members else {
      throw Problem.badRequest(
        "bad_usage", "usage must be an object: {\"meter\":…,\"quantity\":…}.")
    }
    if members["meter"] != nil {
      meter = try Self.text(members, "meter", 1...Limits.meterBytes)
      guard MeterName.isValid(meter) else {
        throw Problem.badRequest("bad_usage", "usage.meter must match [a-z][a-z0-9_]{0,63}.")
      }
    }
    if let value = members["quantity"] {
      guard let quantity = Self.whole(value), (0...maximumQuantity).contains(quantity) else {
        throw Problem.badRequest(
          "bad_usage", "usage.quantity must be an integer from 0 to \(maximumQuantity).")
      }
      self.quantity = quantity
    }
  }

  /// JSON Schema, and languages with only floating-point numbers, take `3.0` for an integer.
  private static func whole(_ value: JSONValue) -> Int64? {
    if let integer = value.integer { return integer }
    guard case .number(let digits) = value, let number = Double(digits) else { return nil }
    return Int64(exactly: number)
  }

  /// An identifier may hold any text but NUL, which PostgreSQL cannot store.
  private static func identifier(
    _ members: [JSONMember], _ name: String, _ lengths: ClosedRange<Int>
  ) throws -> String {
    guard let text = members[name]?.text, lengths.contains(text.utf8.count),
      !text.utf8.contains(0)
    else {
      throw Problem.badRequest(
        "bad_request",
        "\(name) must be a string of \(lengths.lowerBound) to \(lengths.upperBound) bytes "
          + "without U+0000."
      )
    }
    return text
  }

  private static func text(
    _ members: [JSONMember], _ name: String, _ lengths: ClosedRange<Int>
  ) throws -> String {
    guard let text = members[name]?.text, lengths.contains(text.utf8.count),
      text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else {
      throw Problem.badRequest(
        "bad_request",
        "\(name) must be a string of \(lengths.lowerBound) to \(lengths.upperBound) bytes "
          + "without control characters."
      )
    }
    return text
  }
}
