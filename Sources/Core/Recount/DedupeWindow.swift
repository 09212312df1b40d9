import Metering

/// Rule (b), which looks at the identities of the valid usage events at the preceding offsets of
/// one partition.
///
/// It is a dictionary of whole texts without hashing or shortening. Two events are the same here
/// only if every byte of subject, source and id is the same.
struct DedupeWindow: Sendable {
  struct Identity: Hashable, Sendable {
    var subject: ExactText
    var source: ExactText
    var id: ExactText
  }

  /// The sizes, ascending by `fromOffset`. The first one applies from the beginning.
  private let sizes: [WindowSize]
  /// How far back any size of the history reaches. A larger window that begins later looks at
  /// offsets before its beginning, so they must be kept even while a smaller one applies.
  private let largestSize: Int64
  private var lastOffset: [Identity: Int64] = [:]
  /// Every sighting within `largestSize`, oldest first, from `oldestSighting` on.
  private var sightings: [(offset: Int64, identity: Identity)] = []
  private var oldestSighting = 0

  /// - Parameter history: sizes that are not negative, in any order.
  init(history: [WindowSize]) {
    let whole = [WindowSize(fromOffset: .min, size: RecountSettings.defaultWindow)] + history
    precondition(whole.allSatisfy { $0.size >= 0 }, "a dedupe window of negative size")
    let ascending = whole.sorted { $0.fromOffset < $1.fromOffset }
    sizes = ascending
    // The default counts for the bound only if it ever applies. It does not if an entry begins at
    // 0.
    let holding = ascending.indices.filter { index in
      index + 1 == ascending.count || ascending[index + 1].fromOffset > 0
    }
    largestSize = holding.map { ascending[$0].size }.max() ?? 0
  }

  /// The size of the window at an offset.
  func size(at offset: Int64) -> Int64 {
    sizes.last { $0.fromOffset <= offset }?.size ?? RecountSettings.defaultWindow
  }

  /// Whether `identity` was seen at one of the W offsets before `offset`.
  func contains(_ identity: Identity, before offset: Int64) -> Bool {
    guard let seen = lastOffset[identity] else { return false }
    return offset - seen <= size(at: offset)
  }

  /// Records that `identity` is at `offset`, and forgets sightings that no later offset can look
  /// back to.
  ///
  /// It keeps at most one sighting more than the largest window has offsets. It may use twice that
  /// memory until the empty front of the list is released. The time is amortized constant.
  mutating func insert(_ identity: Identity, at offset: Int64) {
    lastOffset[identity] = offset
    sightings.append((offset, identity))
    // The next record looks back from offset + 1 or later.
    while sightings[oldestSighting].offset < offset + 1 - largestSize,
      oldestSighting < sightings.count - 1
    {
      let old = sightings[oldestSighting]
      // If a later sighting has renewed the identity, only this sighting is forgotten.
      if lastOffset[old.identity] == old.offset {
        lastOffset[old.identity] = nil
      }
      oldestSighting += 1
    }
    if oldestSighting > sightings.count / 2 {
      sightings.removeFirst(oldestSighting)
      oldestSighting = 0
    }
  }

  /// The number of identities that are kept.
  var count: Int { lastOffset.count }
}
