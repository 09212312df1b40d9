import Crypto
import Metering
import Synchronization

/// What each `Idempotency-Key` was sent with: the same key with another usage is a mistake.
///
/// Keys live apart for each license and each token. Anonymous requests cannot say what was used,
/// so their keys cannot be mistaken and are not kept here. The memory is this process's own and
/// holds the latest `capacity` keys; `eventID` makes sure that a mistake which is not noticed
/// here is counted as a call of its own, not dropped as a repetition.
final class IdempotencyKeys: Sendable {
  struct Usage: Sendable, Equatable {
    var meter: Identifier
    var quantity: Int64
  }

  private let known: Mutex<BoundedCache<SHA256.Digest, Usage>>

  init(capacity: Int = 65_536) { known = Mutex(BoundedCache(capacity: capacity)) }

  /// Remembers the key's usage the first time.
  ///
  /// - Returns: false where the key was sent with another usage before.
  func isConsistent(_ key: String, license: Identifier, token: String, _ usage: Usage) -> Bool {
    // None of the parts holds a NUL, so they can be told apart.
    let text = "\(license)\0\(token)\0\(key)"
    let digest = SHA256.hash(data: Array(text.utf8))
    return known.withLock { known in
      if let earlier = known.value(digest) { return earlier == usage }
      known.set(digest, usage)
      return true
    }
  }

  /// The id of the event that a request with this key records: the key, and behind it the usage
  /// that replaces the one API call. Two keys, or two usages, never give the same id.
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
