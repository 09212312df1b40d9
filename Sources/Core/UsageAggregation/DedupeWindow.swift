/// The identities at the preceding `size` offsets of one partition.
///
/// A ring of identities by offset, and an open-addressing index from identity to its latest place
/// in the ring. An entry leaves the index exactly when its offset leaves the window, so memory is
/// bounded by the window and nothing is ever rebuilt.
///
/// - Lookup, insertion and expiry take O(1), expected. Each costs one cache miss, because the
///   index's slots carry 32 bits of the hash.
/// - The memory is 16 bytes for each ring place touched so far and 16 bytes for each live entry. It
///   is at most 32 bytes × `size` (8 MiB for the default).
/// - Deletion shifts entries back, so there are no tombstones (Knuth, The Art of Computer
///   Programming, vol. 3, algorithm 6.4 R).
package struct DedupeWindow: ~Copyable {
  private static let chunkShift = 12

  /// How many offsets the window spans.
  package let size: Int
  /// Ring places are counted from here, so that an offset may be negative. The offsets that a
  /// partition inherits are negative.
  private let base: Int64
  /// The next offset that may be observed. All offsets below it are inside the window or have left
  /// it.
  package private(set) var nextOffset: Int64
  /// Distinct identities in the window.
  package private(set) var count = 0

  /// Ring places in chunks that are allocated when first touched.
  private var chunks: UnsafeMutablePointer<UnsafeMutablePointer<Identity>?>
  private let chunkCount: Int
  /// The slots. Each has the identity's high 32 bits and then its ring place + 1. An empty slot is
  /// 0.
  private var slots: UnsafeMutablePointer<UInt64>
  private var slotBits: Int

  package init(size: Int, startOffset: Int64) {
    precondition(size > 0 && size < 1 << 30, "the configuration bounds the window")
    self.size = size
    nextOffset = startOffset
    base = startOffset
    chunkCount = (size >> Self.chunkShift) + 1
    chunks = .allocate(capacity: chunkCount)
    chunks.initialize(repeating: nil, count: chunkCount)
    slotBits = 8
    slots = .allocate(capacity: 1 << slotBits)
    slots.initialize(repeating: 0, count: 1 << slotBits)
  }

  deinit {
    for i in 0..<chunkCount { chunks[i]?.deallocate() }
    chunks.deallocate()
    slots.deallocate()
  }

  /// Reads the slot where `identity` would be, so that it is in the cache when `observe` needs it.
  /// The result has no meaning.
  @inline(__always)
  package func touch(_ identity: Identity) -> UInt64 { slots[home(identity)] }

  /// Records a valid record, and returns whether its identity is at one of the preceding `size`
  /// offsets.
  ///
  /// - Precondition: `offset >= nextOffset`.
  package mutating func observe(_ identity: Identity, at offset: Int64) -> Bool {
    advance(to: offset)
    let place = place(of: offset)
    // The entry of `offset - size` has the same place and is still in the window, so it leaves
    // after this look-up.
    let found = find(identity)
    let isDuplicate = found >= 0
    // The older sighting's ring entry stays without a slot, so expiry will not find one for it.
    if isDuplicate, Int(slots[found] & 0xFFFF_FFFF) == place + 1 {
      // The identity was seen exactly `size` offsets ago, so it renews itself in the same place.
    } else {
      expire(place)
      if isDuplicate {
        // Expiry may have moved the slot.
        let slot = find(identity)
        slots[slot] = slots[slot] & ~0xFFFF_FFFF | UInt64(place + 1)
      } else {
        insert(identity, place)
      }
    }
    store(identity, at: place)
    nextOffset = offset + 1
    return isDuplicate
  }

  /// Takes back the newest record, which turned out to be a dead letter.
  ///
  /// - Precondition: `observe` did not find its identity.
  package mutating func forget(_ offset: Int64) {
    precondition(offset == nextOffset - 1, "only the newest record can be taken back")
    expire(place(of: offset))
  }

  /// Removes all entries below `offset - size`. It is for offsets without a valid record.
  package mutating func advance(to offset: Int64) {
    precondition(offset >= nextOffset, "offsets of a partition only grow")
    let gap = offset - nextOffset
    if gap == 0 { return }
    if gap >= Int64(size) {
      clear()
    } else {
      for skipped in nextOffset..<offset { expire(place(of: skipped)) }
    }
    nextOffset = offset
  }

  private mutating func clear() {
    for i in 0..<chunkCount {
      chunks[i]?.update(repeating: .none, count: 1 << Self.chunkShift)
    }
    slots.update(repeating: 0, count: 1 << slotBits)
    count = 0
  }

  // MARK: The ring

  @inline(__always)
  private func place(of offset: Int64) -> Int {
    Int(UInt64(bitPattern: offset &- base) % UInt64(size))
  }

  @inline(__always)
  private func identity(at place: Int) -> Identity {
    chunks[place >> Self.chunkShift]?[place & (1 << Self.chunkShift - 1)] ?? .none
  }

  private mutating func store(_ identity: Identity, at place: Int) {
    if chunks[place >> Self.chunkShift] == nil {
      let chunk = UnsafeMutablePointer<Identity>.allocate(capacity: 1 << Self.chunkShift)
      chunk.initialize(repeating: .none, count: 1 << Self.chunkShift)
      chunks[place >> Self.chunkShift] = chunk
    }
    chunks[place >> Self.chunkShift]![place & (1 << Self.chunkShift - 1)] = identity
  }

  private mutating func expire(_ place: Int) {
    let old = identity(at: place)
    guard old != .none else { return }
    var slot = home(old)
    while slots[slot] != 0 {
      if Int(slots[slot] & 0xFFFF_FFFF) == place + 1 {
        remove(slot)
        break
      }
      slot = (slot + 1) & (1 << slotBits - 1)
    }
    store(.none, at: place)
  }

  // MARK: The index

  @inline(__always)
  private func home(_ identity: Identity) -> Int {
    Int(truncatingIfNeeded: identity.high >> UInt64(64 - slotBits))
  }

  /// The slot of `identity`, or −1.
  @inline(__always)
  private func find(_ identity: Identity) -> Int {
    let tag = identity.high & ~0xFFFF_FFFF
    var slot = home(identity)
    while true {
      let entry = slots[slot]
      if entry == 0 { return -1 }
      if entry & ~0xFFFF_FFFF == tag,
        self.identity(at: Int(entry & 0xFFFF_FFFF) - 1) == identity
      {
        return slot
      }
      slot = (slot + 1) & (1 << slotBits - 1)
    }
  }

  private mutating func insert(_ identity: Identity, _ place: Int) {
    if (count + 1) * 2 > 1 << slotBits { grow() }
    put(identity.high & ~0xFFFF_FFFF | UInt64(place + 1))
    count += 1
  }

  private func put(_ entry: UInt64) {
    var slot = Int(truncatingIfNeeded: entry >> UInt64(64 - slotBits))
    while slots[slot] != 0 { slot = (slot + 1) & (1 << slotBits - 1) }
    slots[slot] = entry
  }

  private mutating func grow() {
    let old = slots
    let oldCount = 1 << slotBits
    slotBits += 1
    slots = .allocate(capacity: 1 << slotBits)
    slots.initialize(repeating: 0, count: 1 << slotBits)
    for i in 0..<oldCount where old[i] != 0 { put(old[i]) }
    old.deallocate()
  }

  private mutating func remove(_ hole: Int) {
    let mask = 1 << slotBits - 1
    var hole = hole
    var slot = (hole + 1) & mask
    while slots[slot] != 0 {
      let home = Int(truncatingIfNeeded: slots[slot] >> UInt64(64 - slotBits))
      // An entry may fill the hole unless its home lies after the hole.
      if (slot - home) & mask >= (slot - hole) & mask {
        slots[hole] = slots[slot]
        hole = slot
      }
      slot = (slot + 1) & mask
    }
    slots[hole] = 0
    count -= 1
  }

  /// Traps unless every live entry has exactly one slot, and that slot is reachable from its home.
  /// Tests call it.
  package func checkInvariants() {
    var occupied = 0
    for slot in 0..<(1 << slotBits) where slots[slot] != 0 {
      occupied += 1
      let identity = identity(at: Int(slots[slot] & 0xFFFF_FFFF) - 1)
      precondition(find(identity) == slot, "an entry cannot be reached from its home")
    }
    precondition(occupied == count, "count differs from the slots in use")
  }
}
