import NIOHTTP1

/// The header fields that the service reads, found in one pass. The values of a repeated field are
/// joined with commas.
struct RequestFields: Sendable {
  private(set) var authorization: String?
  private(set) var contentType: String?
  private(set) var idempotencyKey: String?
  private(set) var forwardedFor: String?
  private(set) var userAgent: String?
  private(set) var traceparent: String?
  /// Nil if there is none. The decoder has already refused values that are not numbers.
  private(set) var contentLength: Int?
  private(set) var expectsContinue = false
  /// The number of `Host` fields, and whether all of them are hosts.
  private(set) var hostCount = 0
  private(set) var isHostValid = true
  /// The client asks for another protocol, which the service does not speak. The decoder reads
  /// nothing after such a request.
  private(set) var asksForUpgrade = false

  init() {}

  init(_ headers: HTTPHeaders) {
    for (name, value) in headers {
      // The length is compared first, because most fields are none of these.
      switch name.utf8.count {
      case 4 where Self.equal(name, "host"):
        hostCount += 1
        if !Self.isHost(value) { isHostValid = false }
      case 6 where Self.equal(name, "expect"):
        expectsContinue = value.lowercased() == "100-continue"
      case 7 where Self.equal(name, "upgrade"): asksForUpgrade = true
      case 10 where Self.equal(name, "user-agent"): Self.add(value, to: &userAgent)
      case 11 where Self.equal(name, "traceparent"): Self.add(value, to: &traceparent)
      case 12 where Self.equal(name, "content-type"): Self.add(value, to: &contentType)
      case 13 where Self.equal(name, "authorization"): Self.add(value, to: &authorization)
      case 14 where Self.equal(name, "content-length"): contentLength = Int(value)
      case 15 where Self.equal(name, "idempotency-key"): Self.add(value, to: &idempotencyKey)
      case 15 where Self.equal(name, "x-forwarded-for"): Self.add(value, to: &forwardedFor)
      default: break
      }
    }
  }

  /// Checks the characters of `uri-host [":" port]`. It may be empty (RFC 9110, section 7.2).
  private static func isHost(_ value: String) -> Bool {
    value.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "#"), UInt8(ascii: ","), UInt8(ascii: "/"),
        UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "?"), UInt8(ascii: "@"),
        UInt8(ascii: "\\"), UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "{"),
        UInt8(ascii: "|"), UInt8(ascii: "}"):
        false
      default: (0x21...0x7E).contains(byte)
      }
    }
  }

  private static func add(_ value: String, to field: inout String?) {
    field = field.map { $0 + ", " + value } ?? value
  }

  /// - Parameter lower: in lower case and as long as `name`.
  private static func equal(_ name: String, _ lower: StaticString) -> Bool {
    var i = 0
    for byte in name.utf8 {
      let letter = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
      if letter != lower.utf8Start[i] { return false }
      i += 1
    }
    return true
  }
}
