import Synchronization

/// Whether a consumer is joining its group or is outside of it. This is read from librdkafka's own log lines, because
/// nothing else tells it. The rebalance callback comes only when the join is over.
final class GroupState: Sendable {
  private let joins = Atomic<Bool>(false)
  private let isInitial = Atomic<Bool>(true)

  /// Whether the request to join was sent and the assignment has not arrived yet.
  var isJoining: Bool { joins.load(ordering: .relaxed) }

  /// Whether the consumer is not a member, and neither joins nor leaves. It is also true if the
  /// operator's own `debug` leaves these lines out.
  var isOutside: Bool { isInitial.load(ordering: .relaxed) }

  /// Takes one line of librdkafka's log, such as `Group "g" changed join state steady -> init
  /// (state up)`.
  func read(facility: UnsafePointer<CChar>, line: UnsafePointer<CChar>) {
    guard facility[0] == CChar(UInt8(ascii: "C")), String(cString: facility) == "CGRPJOINSTATE",
      let state = Self.state(String(cString: line))
    else { return }
    isInitial.store(state == "init", ordering: .relaxed)
    joins.store(
      ["init", "wait-join", "wait-metadata", "wait-sync"].contains(state), ordering: .relaxed)
  }

  /// The state that the line says was entered.
  static func state(_ line: String) -> Substring? {
    guard let arrow = line.firstRange(of: " -> ") else { return nil }
    return line[arrow.upperBound...].prefix { $0 != " " }
  }
}
