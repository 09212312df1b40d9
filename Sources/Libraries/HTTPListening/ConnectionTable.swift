package import NIOCore
package import Synchronization

/// A listener's connections. The table knows how many there are, to which client each belongs, and
/// which one must close when there are too many.
///
/// Invariants:
/// - At most `ceiling` descriptors are open. While that many are open, the listener accepts
///   nothing.
/// - At most `maximum` connections are served, and at most `share` from one address. If there are
///   that many, a new connection takes the place of an idle one. If its address has used its share,
///   that is an idle connection from the same address. The new connection is refused if all of
///   those have a request under way.
package final class ConnectionTable: Sendable {
  /// One connection.
  package final class Entry: Sendable {
    package let channel: any Channel
    fileprivate let group: AddressGroup?
    /// Whether a request is under way.
    package let isBusy = Atomic<Bool>(false)
    /// Whether a request came since the table last looked for a connection to close.
    package let wasUsed = Atomic<Bool>(true)
    /// Its position in the table's lists, or -1. The table's lock guards it.
    fileprivate let place = Atomic<Int>(-1)
    fileprivate let groupPlace = Atomic<Int>(-1)

    fileprivate init(_ channel: any Channel, _ group: AddressGroup?) {
      self.channel = channel
      self.group = group
    }
  }

  /// Asks a connection to close as soon as no request is under way on it.
  package struct MakeRoom: Sendable { package init() {} }

  /// Why a connection is not served.
  package enum Refusal: Error {
    case address
    case all
  }

  package struct Statistics: Sendable, Equatable {
    package var open = 0
    package var closedForOthers = 0
    package var refused = 0
  }

  /// Connections in the order in which the hand of the CLOCK algorithm passes them.
  private struct Ring {
    var entries: [Entry] = []
    var hand = 0
  }

  private struct State {
    var all = Ring()
    var groups: [AddressGroup: Ring] = [:]
    var isAcceptHeld = false
    var statistics = Statistics()
  }

  package let maximum: Int
  package let share: Int
  package let ceiling: Int
  private let state = Mutex(State())
  /// How many connections are checked to find one to close.
  private static let looks = 32

  /// - Parameters:
  ///   - descriptors: how many connections may be open.
  ///   - share: how many connections one address may have. Nil stands for half of all.
  package init(descriptors: Int, share: Int?) {
    ceiling = max(descriptors, 2)
    // The remaining descriptors are for connections that are being closed.
    maximum = ceiling - max(1, ceiling / 16)
    self.share = min(share ?? max(maximum / 2, 1), maximum)
  }

  package var statistics: Statistics { state.withLock { $0.statistics } }

  // MARK: The listener's side

  /// Whether another connection may be accepted. If not, `closed` later says when it may.
  package func mayAccept() -> Bool {
    state.withLock { state in
      state.isAcceptHeld = state.statistics.open >= ceiling
      return !state.isAcceptHeld
    }
  }

  /// Notes that a connection was accepted and uses a descriptor from now on.
  package func opened() { state.withLock { $0.statistics.open += 1 } }

  /// - Returns: whether accepting was paused and may go on.
  package func closed() -> Bool {
    state.withLock { state in
      state.statistics.open -= 1
      guard state.isAcceptHeld, state.statistics.open < ceiling else { return false }
      state.isAcceptHeld = false
      return true
    }
  }

  // MARK: Places

  /// Gives a connection its place.
  ///
  /// - Parameter address: nil if the connection counts for no client, because it comes from a
  ///   trusted proxy.
  package func admit(
    _ channel: any Channel, _ group: AddressGroup?
  ) throws(Refusal) -> Entry {
    let entry = Entry(channel, group)
    let (refusal, victim) = state.withLock { state -> (Refusal?, Entry?) in
      var victim: Entry?
      if let group, let ring = state.groups[group], ring.entries.count >= share {
        victim = Self.findIdle(&state.groups[group, default: ring])
        guard victim != nil else {
          state.statistics.refused += 1
          return (.address, nil)
        }
      } else if state.all.entries.count >= maximum {
        victim = Self.findIdle(&state.all)
        guard victim != nil else {
          state.statistics.refused += 1
          return (.all, nil)
        }
      }
      if let victim {
        Self.remove(victim, &state)
        state.statistics.closedForOthers += 1
      }
      Self.insert(entry, &state)
      return (nil, victim)
    }
    if let refusal { throw refusal }
    victim?.channel.pipeline.fireUserInboundEventTriggered(MakeRoom())
    return entry
  }

  /// Notes that the connection is closed. Further calls do nothing.
  package func leave(_ entry: Entry) { state.withLock { Self.remove(entry, &$0) } }

  private static func findIdle(_ ring: inout Ring) -> Entry? {
    for _ in 0..<min(looks, 2 * ring.entries.count) {
      ring.hand = (ring.hand + 1) % ring.entries.count
      let entry = ring.entries[ring.hand]
      if !entry.isBusy.load(ordering: .relaxed),
        !entry.wasUsed.exchange(false, ordering: .relaxed)
      {
        return entry
      }
    }
    // Connections that were used recently may also be idle.
    for _ in 0..<min(looks, ring.entries.count) {
      ring.hand = (ring.hand + 1) % ring.entries.count
      let entry = ring.entries[ring.hand]
      if !entry.isBusy.load(ordering: .relaxed) { return entry }
    }
    return nil
  }

  private static func insert(_ entry: Entry, _ state: inout State) {
    entry.place.store(state.all.entries.count, ordering: .relaxed)
    state.all.entries.append(entry)
    guard let group = entry.group else { return }
    entry.groupPlace.store(state.groups[group]?.entries.count ?? 0, ordering: .relaxed)
    state.groups[group, default: Ring()].entries.append(entry)
  }

  private static func remove(_ entry: Entry, _ state: inout State) {
    let place = entry.place.exchange(-1, ordering: .relaxed)
    guard place >= 0 else { return }
    let last = state.all.entries.removeLast()
    if last !== entry {
      state.all.entries[place] = last
      last.place.store(place, ordering: .relaxed)
    }
    guard let group = entry.group else { return }
    let groupPlace = entry.groupPlace.exchange(-1, ordering: .relaxed)
    guard let lastOfGroup = state.groups[group]?.entries.popLast() else { return }
    if lastOfGroup !== entry {
      state.groups[group]?.entries[groupPlace] = lastOfGroup
      lastOfGroup.groupPlace.store(groupPlace, ordering: .relaxed)
    }
    if state.groups[group]?.entries.isEmpty == true { state.groups[group] = nil }
  }
}
