package import EventCodec
import Metering

/// What one partition knows about one producer. Every flush that changed it stores it with the
/// partition's offset.
package struct ProducerState: Sendable {
  package var name: [UInt8]
  /// The offset of its last record with producer and sequence. It is −1 if that is unknown or in an
  /// earlier log.
  package var lastOffset: Int64 = -1
  /// The highest sequence of any valid event, or −1.
  package var sequence: Int64 = -1
  /// The highest sequence of any dead letter, or −1.
  package var deadSequence: Int64 = -1
  /// The numbers of events count from the last time that the state was taken. The store adds them
  /// up.
  package var counted: Int64 = 0
  package var duplicates: Int64 = 0
  /// The duplicates that the producer had accepted as separate events.
  package var repeated: Int64 = 0
  package var deadLettered: Int64 = 0
  /// Whether the sequences are given up, because the partition remembers too many producers that
  /// were heard later.
  package var isForgotten = false

  package init(name: [UInt8]) { self.name = name }
}

/// The producers of one partition, found by name. The events of a batch usually have the same
/// producer, so the last one is tried first.
///
/// At most `maximum` producers are remembered. Anybody can invent a name, so the producer that was
/// heard least recently makes room for a new one. The log alone decides which one that is, so the
/// recount decides the same. Events that it sends again are then recognized only by their ids.
package struct ProducerSequences: ~Copyable {
  private struct Entry {
    var name: UnsafeMutableRawBufferPointer
    var hash: UInt64
    var lastOffset: Int64 = -1
    /// The neighbors in the order of the last records, or −1.
    var earlier = -1
    var later = -1
    var isDirty = false
    var sequence: Int64 = -1
    var deadSequence: Int64 = -1
    var counted: Int64 = 0
    var duplicates: Int64 = 0
    var repeated: Int64 = 0
    var deadLettered: Int64 = 0

    func isNamed(_ text: Text) -> Bool { text.equals(UnsafeRawBufferPointer(name)) }
  }

  /// This is separate memory and not an array. Every event changes its entry, and with an array it
  /// would have to check whether the array is shared.
  private var entries: UnsafeMutablePointer<Entry>
  private var capacity = 8
  private var count = 0
  private var dirty: [Int] = []
  /// The position in `entries` + 1, or 0 for an empty slot. At most half of the slots are used.
  private var slots: [Int32] = Array(repeating: 0, count: 16)
  /// The producer that was heard last.
  private var last = -1
  /// The producer that was heard least recently.
  private var first = -1
  private let maximum: Int
  private let hash: KeyedHash
  /// The producers that made room since the states were last taken.
  private var forgotten: [ProducerState] = []

  /// - Parameter states: the latest `maximum` are taken.
  package init(
    _ states: [ProducerState], hash: KeyedHash, maximum: Int = Limits.producersPerPartition
  ) {
    self.hash = hash
    self.maximum = maximum
    entries = .allocate(capacity: capacity)
    let inOrder = states.sorted {
      $0.lastOffset == $1.lastOffset
        ? $0.name.lexicographicallyPrecedes($1.name) : $0.lastOffset < $1.lastOffset
    }
    for state in inOrder.suffix(maximum) {
      state.name.withUnsafeBytes { append($0, hash.hash($0, 0)) }
      entries[count - 1].sequence = state.sequence
      entries[count - 1].deadSequence = state.deadSequence
      entries[count - 1].lastOffset = state.lastOffset
      link(count - 1)
    }
  }

  /// The number of producers that made room since the states were last taken.
  package var forgottenCount: Int { forgotten.count }

  deinit {
    for i in 0..<count { entries[i].name.deallocate() }
    entries.deallocate()
  }

  /// The states of all producers in no particular order.
  package var states: [ProducerState] {
    // This is a loop in place of `map(state)`, because the compiler (6.3.1) crashes on a method of
    // a noncopyable value that is used as a function.
    var all: [ProducerState] = []
    for i in 0..<count { all.append(state(i)) }
    return all
  }

  private func state(_ i: Int) -> ProducerState {
    var state = ProducerState(name: Array(entries[i].name))
    state.lastOffset = entries[i].lastOffset
    state.sequence = entries[i].sequence
    state.deadSequence = entries[i].deadSequence
    state.counted = entries[i].counted
    state.duplicates = entries[i].duplicates
    state.repeated = entries[i].repeated
    state.deadLettered = entries[i].deadLettered
    return state
  }

  /// The position of the producer of that name, which is added if it is new. It counts as heard at
  /// `offset`.
  ///
  /// The position holds until the next call.
  @inline(__always)
  package mutating func index(of name: Text, at offset: Int64) -> Int {
    if last < 0 || !entries[last].isNamed(name) { find(name) }
    entries[last].lastOffset = offset
    touch(last)
    return last
  }

  /// Makes the producer of that name the one heard last.
  private mutating func find(_ name: Text) {
    let bytes = UnsafeRawBufferPointer(name.buffer)
    let h = hash.hash(bytes, 0)
    var slot = Int(truncatingIfNeeded: h) & (slots.count - 1)
    while slots[slot] != 0 {
      let i = Int(slots[slot]) - 1
      if entries[i].hash == h, entries[i].isNamed(name) {
        unlink(i)
        link(i)
        return
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    if count < maximum {
      append(bytes, h)
      link(count - 1)
    } else {
      replaceFirst(bytes, h)
    }
  }

  // MARK: The order of the last records

  private mutating func unlink(_ i: Int) {
    let (earlier, later) = (entries[i].earlier, entries[i].later)
    if earlier >= 0 { entries[earlier].later = later } else { first = later }
    if later >= 0 { entries[later].earlier = earlier } else { last = earlier }
  }

  private mutating func link(_ i: Int) {
    entries[i].earlier = last
    entries[i].later = -1
    if last >= 0 { entries[last].later = i } else { first = i }
    last = i
  }

  /// Replaces the producer that was heard least recently.
  private mutating func replaceFirst(_ name: UnsafeRawBufferPointer, _ h: UInt64) {
    let i = first
    var leaving = state(i)
    leaving.isForgotten = true
    forgotten.append(leaving)
    unlink(i)
    removeSlot(of: i)
    entries[i].name.deallocate()
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: name.count, alignment: 8)
    copy.copyMemory(from: name)
    var entry = Entry(name: copy, hash: h)
    // Its position may already be in `dirty`.
    entry.isDirty = entries[i].isDirty
    entries[i] = entry
    put(i)
    link(i)
  }

  private mutating func removeSlot(of i: Int) {
    let mask = slots.count - 1
    var hole = Int(truncatingIfNeeded: entries[i].hash) & mask
    while slots[hole] != Int32(i + 1) { hole = (hole + 1) & mask }
    var slot = (hole + 1) & mask
    while slots[slot] != 0 {
      let home = Int(truncatingIfNeeded: entries[Int(slots[slot]) - 1].hash) & mask
      // An entry may fill the hole unless its home lies after the hole.
      if (slot - home) & mask >= (slot - hole) & mask {
        slots[hole] = slots[slot]
        hole = slot
      }
      slot = (slot + 1) & mask
    }
    slots[hole] = 0
  }

  private mutating func append(_ name: UnsafeRawBufferPointer, _ h: UInt64) {
    if count == capacity {
      let larger = UnsafeMutablePointer<Entry>.allocate(capacity: capacity * 2)
      larger.moveInitialize(from: entries, count: count)
      entries.deallocate()
      entries = larger
      capacity *= 2
    }
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: name.count, alignment: 8)
    copy.copyMemory(from: name)
    (entries + count).initialize(to: Entry(name: copy, hash: h))
    count += 1
    if count * 2 > slots.count {
      slots = Array(repeating: 0, count: slots.count * 2)
      for i in 0..<count { put(i) }
    } else {
      put(count - 1)
    }
  }

  private mutating func put(_ i: Int) {
    var slot = Int(truncatingIfNeeded: entries[i].hash) & (slots.count - 1)
    while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
    slots[slot] = Int32(i + 1)
  }

  @inline(__always)
  private mutating func touch(_ i: Int) {
    if !entries[i].isDirty {
      entries[i].isDirty = true
      dirty.append(i)
    }
  }

  /// Rule (a). Returns whether `sequence` is at or below the highest one seen, and records it.
  @inline(__always)
  package mutating func observe(_ i: Int, sequence: Int64) -> Bool {
    if sequence <= entries[i].sequence { return true }
    entries[i].sequence = sequence
    return false
  }

  @inline(__always)
  package mutating func noteCounted(_ i: Int) { entries[i].counted += 1 }

  package mutating func noteDuplicate(_ i: Int, isRepeated: Bool) {
    entries[i].duplicates += 1
    if isRepeated { entries[i].repeated += 1 }
  }

  /// Counts a dead letter once, however often it is sent. A resend is at or below the highest
  /// sequence seen. This is also true if the first sighting was valid and the resend has become too
  /// old.
  package mutating func noteDeadLetter(_ i: Int, sequence: Int64) {
    guard sequence > max(entries[i].deadSequence, entries[i].sequence) else { return }
    entries[i].deadSequence = sequence
    entries[i].deadLettered += 1
  }

  /// Counts a valid event that became a dead letter because its license's sum does not fit.
  /// `observe` has already moved the sequence. So `noteDeadLetter` would take it for a resend, and
  /// the ledger would miss one event.
  ///
  /// - Precondition: `observe` has returned false for it.
  package mutating func noteOverflow(_ i: Int, sequence: Int64) {
    entries[i].deadSequence = max(entries[i].deadSequence, sequence)
    entries[i].deadLettered += 1
  }

  /// The states that changed since the last call. The forgotten ones come first.
  package mutating func takeChanged() -> [ProducerState] {
    var changed = forgotten
    forgotten.removeAll()
    for i in dirty {
      changed.append(state(i))
      entries[i].isDirty = false
      entries[i].counted = 0
      entries[i].duplicates = 0
      entries[i].repeated = 0
      entries[i].deadLettered = 0
    }
    dirty.removeAll(keepingCapacity: true)
    return changed
  }
}
