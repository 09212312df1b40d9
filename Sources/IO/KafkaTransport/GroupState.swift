import Synchronization

/// Whether a consumer is joining its group. This is read from librdkafka's own log lines, because
/// nothing else tells it. The rebalance callback comes only when the join is over.
final class GroupState: Sendable {
  private let joins = Atomic<Bool>(false)

  /// Whether the request to join was sent and the assignment has not arrived yet.
  var isJoining: Bool { joins.load(ordering: .relaxed) }

  /// Takes one line of librdkafka's log, such as `Group "g" changed join state steady -> init
  /// (state up)`.
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
