package import EventCodec

/// What one partition knows of one producer, for good: stored with the partition's offset in every flush that changed it.
package struct ProducerState: Sendable {
  package var name: [UInt8]
  /// Highest sequence of any valid event; −1: none.
  package var sequence: Int64 = -1
  /// Highest sequence of any dead letter; −1: none.
  package var deadSequence: Int64 = -1
  package var counted: Int64 = 0
  package var duplicates: Int64 = 0
  /// Of the duplicates, those that the producer had accepted as events of their own.
  package var repeated: Int64 = 0
  package var deadLettered: Int64 = 0

  package init(name: [UInt8]) { self.name = name }
}

/// The producers of one partition. Found by name; a batch's events mostly share one, which is tried first.
package struct ProducerSequences: ~Copyable {
  private struct Entry {
    let name: UnsafeMutableRawBufferPointer
    let hash: UInt64
    var isDirty = false
    var sequence: Int64 = -1
    var deadSequence: Int64 = -1
    var counted: Int64 = 0
    var duplicates: Int64 = 0
    var repeated: Int64 = 0
    var deadLettered: Int64 = 0

    func isNamed(_ text: Text) -> Bool { text.equals(UnsafeRawBufferPointer(name)) }
  }

  /// Memory of its own, not an array: an event changes its entry, and would pay for asking whether the array is shared.
  private var entries: UnsafeMutablePointer<Entry>
  private var capacity = 8
  private var count = 0
  private var dirty: [Int] = []
  /// Position in `entries` + 1; 0 is empty. At most half full.
  private var slots: [Int32] = Array(repeating: 0, count: 16)
  private var last = -1
  private let hash: KeyedHash

  package init(_ states: [ProducerState], hash: KeyedHash) {
    self.hash = hash
    entries = .allocate(capacity: capacity)
    for state in states {
      state.name.withUnsafeBytes { append($0, hash.hash($0, 0)) }
      entries[count - 1].sequence = state.sequence
      entries[count - 1].deadSequence = state.deadSequence
      entries[count - 1].counted = state.counted
      entries[count - 1].duplicates = state.duplicates
      entries[count - 1].repeated = state.repeated
      entries[count - 1].deadLettered = state.deadLettered
    }
  }

  deinit {
    for i in 0..<count { entries[i].name.deallocate() }
    entries.deallocate()
  }

  /// All of them, in the order of their first events.
  package var states: [ProducerState] {
    // Loops, not `map(state)`: the compiler (6.3.1) crashes on a method of a noncopyable value taken as a function.
    var all: [ProducerState] = []
    for i in 0..<count { all.append(state(i)) }
    return all
  }

  private func state(_ i: Int) -> ProducerState {
    var state = ProducerState(name: Array(entries[i].name))
    state.sequence = entries[i].sequence
    state.deadSequence = entries[i].deadSequence
    state.counted = entries[i].counted
    state.duplicates = entries[i].duplicates
    state.repeated = entries[i].repeated
    state.deadLettered = entries[i].deadLettered
    return state
  }

  /// The position of the producer of that name, added where it is new.
  @inline(__always)
  package mutating func index(of name: Text) -> Int {
    if last >= 0, entries[last].isNamed(name) { return last }
    return find(name)
  }

  private mutating func find(_ name: Text) -> Int {
    let bytes = UnsafeRawBufferPointer(name.buffer)
    let h = hash.hash(bytes, 0)
    var slot = Int(truncatingIfNeeded: h) & (slots.count - 1)
    while slots[slot] != 0 {
      let i = Int(slots[slot]) - 1
      if entries[i].hash == h, entries[i].isNamed(name) {
        last = i
        return i
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    append(bytes, h)
    last = count - 1
    return last
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

  /// Rule (a): whether `sequence` is at or below the highest seen; notes it.
  @inline(__always)
  package mutating func observe(_ i: Int, sequence: Int64) -> Bool {
    touch(i)
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

  /// Counts a dead letter once, however often it is sent: a resend is at or below what was seen, also where the first sighting was valid
  /// and the resend has become too old.
  package mutating func noteDeadLetter(_ i: Int, sequence: Int64) {
    guard sequence > max(entries[i].deadSequence, entries[i].sequence) else { return }
    touch(i)
    entries[i].deadSequence = sequence
    entries[i].deadLettered += 1
  }

  /// Counts a valid event that became a dead letter because its license's sum does not fit.
  /// `observe` has moved the sequence already, so `noteDeadLetter` would take it for a resend and
  /// the ledger would miss one event.
  ///
  /// - Precondition: `observe` has said that it is none.
  package mutating func noteOverflow(_ i: Int, sequence: Int64) {
    entries[i].deadSequence = max(entries[i].deadSequence, sequence)
    entries[i].deadLettered += 1
  }

  /// The states that changed since the last call.
  package mutating func takeChanged() -> [ProducerState] {
    var changed: [ProducerState] = []
    for i in dirty {
      changed.append(state(i))
      entries[i].isDirty = false
    }
    dirty.removeAll(keepingCapacity: true)
    return changed
  }
}
