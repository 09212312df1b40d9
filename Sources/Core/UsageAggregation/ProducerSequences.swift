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
  package private(set) var states: [ProducerState] = []
  private var isDirty: [Bool] = []
  private var dirty: [Int] = []
  private var hashes: [UInt64] = []
  /// Position in `states` + 1; 0 is empty. At most half full.
  private var slots: [Int32] = Array(repeating: 0, count: 16)
  private var last = -1
  private let hash: KeyedHash

  package init(_ states: [ProducerState], hash: KeyedHash) {
    self.hash = hash
    for state in states {
      let h = state.name.withUnsafeBytes { hash.hash($0, 0) }
      append(state, h)
    }
  }

  /// The position of the producer of that name, added where it is new.
  package mutating func index(of name: Text) -> Int {
    if last >= 0, states[last].name.withUnsafeBytes({ name.equals($0) }) { return last }
    let h = hash.hash(UnsafeRawBufferPointer(name.buffer), 0)
    var slot = Int(truncatingIfNeeded: h) & (slots.count - 1)
    while slots[slot] != 0 {
      let i = Int(slots[slot]) - 1
      if hashes[i] == h, states[i].name.withUnsafeBytes({ name.equals($0) }) {
        last = i
        return i
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    append(ProducerState(name: Array(name.buffer)), h)
    last = states.count - 1
    return last
  }

  private mutating func append(_ state: ProducerState, _ h: UInt64) {
    states.append(state)
    hashes.append(h)
    isDirty.append(false)
    if states.count * 2 > slots.count {
      slots = Array(repeating: 0, count: slots.count * 2)
      for i in states.indices { put(i) }
    } else {
      put(states.count - 1)
    }
  }

  private mutating func put(_ i: Int) {
    var slot = Int(truncatingIfNeeded: hashes[i]) & (slots.count - 1)
    while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
    slots[slot] = Int32(i + 1)
  }

  @inline(__always)
  private mutating func touch(_ i: Int) {
    if !isDirty[i] {
      isDirty[i] = true
      dirty.append(i)
    }
  }

  /// Rule (a): whether `sequence` is at or below the highest seen; notes it.
  @inline(__always)
  package mutating func observe(_ i: Int, sequence: Int64) -> Bool {
    touch(i)
    if sequence <= states[i].sequence { return true }
    states[i].sequence = sequence
    return false
  }

  @inline(__always)
  package mutating func noteCounted(_ i: Int) { states[i].counted += 1 }

  package mutating func noteDuplicate(_ i: Int, isRepeated: Bool) {
    states[i].duplicates += 1
    if isRepeated { states[i].repeated += 1 }
  }

  /// Counts a dead letter once, however often it is sent: a resend is at or below what was seen, also where the first sighting was valid
  /// and the resend has become too old.
  package mutating func noteDeadLetter(_ i: Int, sequence: Int64) {
    guard sequence > max(states[i].deadSequence, states[i].sequence) else { return }
    touch(i)
    states[i].deadSequence = sequence
    states[i].deadLettered += 1
  }

  /// Counts a valid event that became a dead letter because its license's sum does not fit.
  /// `observe` has moved the sequence already, so `noteDeadLetter` would take it for a resend and
  /// the ledger would miss one event.
  ///
  /// - Precondition: `observe` has said that it is none.
  package mutating func noteOverflow(_ i: Int, sequence: Int64) {
    states[i].deadSequence = max(states[i].deadSequence, sequence)
    states[i].deadLettered += 1
  }

  /// The states that changed since the last call.
  package mutating func takeChanged() -> [ProducerState] {
    let changed = dirty.map { states[$0] }
    for i in dirty { isDirty[i] = false }
    dirty.removeAll(keepingCapacity: true)
    return changed
  }
}
