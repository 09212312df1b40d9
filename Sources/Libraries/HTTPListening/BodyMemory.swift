import Synchronization

/// Bounds the bytes of bodies that are not answered yet, in total and for each client.
package final class BodyMemory: Sendable {
  /// The first bytes of each connection's body are not counted, because the number of connections
  /// is bounded.
  package static let freeBytes = 4_096

  private struct State {
    var used = 0
    var byClient: [AddressGroup: Int] = [:]
  }

  private let limit: Int
  private let share: Int
  private let state = Mutex(State())

  /// - Parameter share: how much of `limit` one client may use.
  package init(limit: Int, share: Int) {
    self.limit = limit
    self.share = share
  }

  /// Takes room for more bytes. Returns false, and takes nothing, if there is not enough.
  ///
  /// - Parameter client: nil if the client is unknown. Then only the total is bounded.
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
