/// The names of our topics and groups at the brokers. They have a prefix if several installations
/// share a cluster. All other code uses the names without it.
package struct TopicNames: Sendable, Equatable {
  /// The prefix, which may be empty.
  package let prefix: String

  package static let plain = TopicNames(prefix: "")

  /// - Parameter prefix: at most 200 of the characters that Kafka allows in topics, which are
  ///   `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`. A name may have 249.
  package init?(checking prefix: String) {
    let isLegal = prefix.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "-"):
        true
      default: false
      }
    }
    guard isLegal, prefix.utf8.count <= 200 else { return nil }
    self.prefix = prefix
  }

  private init(prefix: String) { self.prefix = prefix }

  /// The name of a topic or group at the brokers.
  package func atBrokers(_ name: String) -> String { prefix.isEmpty ? name : prefix + name }

  /// The name without the prefix. A name that does not have the prefix is returned as it is.
  func here(_ name: String) -> String {
    guard !prefix.isEmpty, name.utf8.starts(with: prefix.utf8) else { return name }
    return String(Substring(name.utf8.dropFirst(prefix.utf8.count)))
  }

  func here(_ name: UnsafePointer<CChar>) -> String { here(String(cString: name)) }
}
