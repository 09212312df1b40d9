import Synchronization

/// Whether a consumer is on its way into its group, read from librdkafka's own log lines: nothing
/// else tells it, and the rebalance callback comes when the way is over.
final class GroupState: Sendable {
  private let joins = Atomic<Bool>(false)

  /// Between the request to join and the answer that says what to read.
  var isJoining: Bool { joins.load(ordering: .relaxed) }

  /// Takes one line of librdkafka's log: `Group "g" changed join state steady -> init (state up)`.
  func read(facility: UnsafePointer<CChar>, line: UnsafePointer<CChar>) {
    guard facility[0] == CChar(UInt8(ascii: "C")), String(cString: facility) == "CGRPJOINSTATE",
      let state = Self.state(String(cString: line))
    else { return }
    joins.store(
      ["init", "wait-join", "wait-metadata", "wait-sync"].contains(state), ordering: .relaxed)
  }

  /// The state that the line says was entered.
  static func state(_ line: String) -> Substring? {
    guard let arrow = line.firstRange(of: " -> ") else { return nil }
    return line[arrow.upperBound...].prefix { $0 != " " }
  }
}
