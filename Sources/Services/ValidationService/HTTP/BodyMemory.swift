import Synchronization

/// Bounds what bodies take that are not answered yet, of all connections together.
final class BodyMemory: Sendable {
  private let limit: Int
  private let used = Atomic<Int>(0)

  init(limit: Int) { self.limit = limit }

  /// False, and nothing taken: there is no room.
  func take(_ bytes: Int) -> Bool {
    if used.wrappingAdd(bytes, ordering: .relaxed).newValue <= limit { return true }
    give(bytes)
    return false
  }

  func give(_ bytes: Int) {
    if bytes > 0 { used.wrappingSubtract(bytes, ordering: .relaxed) }
  }
}
