/// How the brokers know our topics and groups: with a prefix, where several installations share a
/// cluster. Everybody else speaks of them without it.
package struct TopicNames: Sendable, Equatable {
  /// May be empty.
  package let prefix: String

  package static let plain = TopicNames(prefix: "")

  /// - Parameter prefix: Kafka's letters for topics: `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`; at most
  ///   200 of them, because a name may have 249.
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

  /// The name here of what the brokers call so. What has no such prefix keeps its name.
  func here(_ name: String) -> String {
    guard !prefix.isEmpty, name.utf8.starts(with: prefix.utf8) else { return name }
    return String(Substring(name.utf8.dropFirst(prefix.utf8.count)))
  }

  func here(_ name: UnsafePointer<CChar>) -> String { here(String(cString: name)) }
}
