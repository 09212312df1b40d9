import Synchronization

/// Bounds the bytes of bodies that are not answered yet, of all connections together and of each
/// client.
package final class BodyMemory: Sendable {
  /// The first bytes of each connection's body are not counted: connections are bounded themselves.
  package static let freeBytes = 4_096

  private struct State {
    var used = 0
    var byClient: [AddressGroup: Int] = [:]
  }

  private let limit: Int
  private let share: Int
  private let state = Mutex(State())

  /// - Parameter share: how much of `limit` one client may take.
  package init(limit: Int, share: Int) {
    self.limit = limit
    self.share = share
  }

  /// False, and nothing is taken, where there is no room for so many bytes more.
  ///
  /// - Parameter client: nil where the client is not known; it has no share of its own then.
  package func take(_ bytes: Int, for client: AddressGroup?) -> Bool {
    state.withLock { state in
      guard state.used + bytes <= limit else { return false }
      if let client {
        let taken = state.byClient[client, default: 0] + bytes
        guard taken <= share else { return false }
        state.byClient[client] = taken
      }
      state.used += bytes
      return true
    }
  }

  package func give(_ bytes: Int, of client: AddressGroup?) {
    guard bytes > 0 else { return }
    state.withLock { state in
      state.used -= bytes
      guard let client else { return }
      let left = state.byClient[client, default: 0] - bytes
      state.byClient[client] = left > 0 ? left : nil
    }
  }
}
