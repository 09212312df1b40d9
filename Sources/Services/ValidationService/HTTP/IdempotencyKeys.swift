import Crypto
import Metering
import Synchronization

/// Remembers the usage that each `Idempotency-Key` was sent with. The same key with different usage
/// is a mistake.
///
/// Keys are separate for each license and each token. Anonymous requests cannot state usage, so
/// their keys are not kept here. Each process remembers only its own latest `capacity` keys. If a
/// mistake is not noticed here, `eventID` makes sure that it counts as a separate call and is not
/// dropped as a repetition.
final class IdempotencyKeys: Sendable {
  struct Usage: Sendable, Equatable {
    var meter: Identifier
    var quantity: Int64
  }

  private let known: Mutex<BoundedCache<SHA256.Digest, Usage>>

  init(capacity: Int = 65_536) { known = Mutex(BoundedCache(capacity: capacity)) }

  /// Remembers the key's usage the first time.
  ///
  /// - Returns: false if the key was sent with different usage before.
  func isConsistent(_ key: String, license: Identifier, token: String, _ usage: Usage) -> Bool {
    // None of the parts contains a NUL, so the parts can be told apart.
    let text = "\(license)\0\(token)\0\(key)"
    let digest = SHA256.hash(data: Array(text.utf8))
    return known.withLock { known in
      if let earlier = known.value(digest) { return earlier == usage }
      known.set(digest, usage)
      return true
    }
  }

  /// The id of the event that a request with this key records: the key, followed by the usage if it
  /// is not the usual single API call. Two different keys or usages never give the same id.
  static func eventID(_ key: String, _ usage: Usage) -> String {
    var id: [UInt8] = []
    for byte in key.utf8 {
      switch byte {
      case UInt8(ascii: ";"): id += "%3B".utf8
      case UInt8(ascii: "%"): id += "%25".utf8
      default: id.append(byte)
      }
    }
    if usage != Usage(meter: "api_calls", quantity: 1) {
      id += ";\(usage.meter);\(usage.quantity)".utf8
    }
    return String(decoding: id, as: UTF8.self)
  }
}
