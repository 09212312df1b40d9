import MeteringTestKit
import Testing
import UsageAggregation

@Suite("The dedupe window")
struct DedupeWindowTests {
  /// Rule (b) as the page states it: a dictionary of every sighting, and a subtraction.
  private struct Model {
    let size: Int64
    var lastSeen: [Int: Int64] = [:]

    mutating func observe(_ name: Int, at offset: Int64) -> Bool {
      let isDuplicate = lastSeen[name].map { offset - $0 <= size } ?? false
      lastSeen[name] = offset
      return isDuplicate
    }

    func liveCount(next: Int64) -> Int {
      lastSeen.values.count { next - $0 <= size }
    }
  }

  private func identity(_ name: Int, _ seed: UInt64 = 0) -> Identity {
    var random = SeededRandom(seed: UInt64(name) &* 7_919 &+ seed)
    return Identity(high: random.next(), low: random.next() | 1)
  }

  @Test(
    "Random streams are judged as a dictionary of all sightings judges them",
    arguments: [1, 2, 3, 7, 64, 100, 4_095, 4_096, 4_097])
  func randomStreams(_ size: Int) {
    var random = SeededRandom(of: "randomStreams(\(size))")
    for round in 0..<(size > 100 ? 2 : 20) {
      // Records that a partition inherits from its parent have offsets below 0.
      var offset = round % 2 == 0 ? -300 : Int64.random(in: 0..<1 << 40, using: &random)
      var window = DedupeWindow(size: size, startOffset: offset)
      var model = Model(size: Int64(size))
      let names = random.pick([2, size, size * 2, size * 4]) + 1
      for step in 0..<(size > 100 ? 15_000 : 600) {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<70: break
        case 70..<90: offset += Int64.random(in: 1...3, using: &random)
        case 90..<98: offset += Int64(size) + Int64.random(in: -2...2, using: &random)
        default: offset += Int64(size * 3)
        }
        offset = max(offset, window.nextOffset)
        if random.chance(10) { window.advance(to: offset) }
        let name = Int.random(in: 0..<names, using: &random)
        let expected = model.observe(name, at: offset)
        let found = window.observe(identity(name), at: offset)
        if found != expected {
          Issue.record("size \(size), step \(step), offset \(offset): \(found)")
          return
        }
        offset += 1
        if size <= 100 || step % 500 == 0 {
          window.checkInvariants()
          // The place of `offset - size` is given up only when its successor comes.
          let live = model.liveCount(next: offset)
          expect(window.count == live, "size \(size), step \(step)")
        }
      }
    }
  }

  @Test(
    "An identity is remembered for exactly the offsets of the window", arguments: [1, 2, 3, 7, 64])
  func exactSize(_ size: Int) {
    for (distance, expected) in [(size - 1, true), (size, true), (size + 1, false)]
    where distance > 0 {
      var window = DedupeWindow(size: size, startOffset: 10)
      expect(!window.observe(identity(1), at: 10))
      expect(window.observe(identity(1), at: 10 + Int64(distance)) == expected)
      window.checkInvariants()
    }
  }

  @Test("A sighting renews its identity, even when it is a duplicate", arguments: [1, 2, 3, 7, 64])
  func renewal(_ size: Int) {
    var window = DedupeWindow(size: size, startOffset: 0)
    var offset: Int64 = 0
    expect(!window.observe(identity(1), at: offset))
    for _ in 0..<5 {
      offset += Int64(size)
      expect(window.observe(identity(1), at: offset))
      window.checkInvariants()
    }
    expect(window.count == 1)
    expect(!window.observe(identity(1), at: offset + Int64(size) + 1))
  }

  @Test("The sighting exactly a window ago leaves when another takes its offset's place")
  func replacement() {
    var window = DedupeWindow(size: 3, startOffset: 0)
    for offset in 0..<3 { expect(!window.observe(identity(offset), at: Int64(offset))) }
    expect(!window.observe(identity(3), at: 3))
    expect(!window.observe(identity(0), at: 4))
    expect(window.observe(identity(3), at: 5))
    window.checkInvariants()
    expect(window.count == 2)
  }

  @Test("A gap as long as the window empties it, and a shorter one does not")
  func gaps() {
    for size in [1, 2, 7, 64] {
      for (gap, expected) in [(size - 1, true), (size, false), (size * 1_000, false)] {
        var window = DedupeWindow(size: size, startOffset: 0)
        _ = window.observe(identity(1), at: 0)
        window.advance(to: 1 + Int64(gap))
        window.checkInvariants()
        expect(window.count == (expected ? 1 : 0))
        expect(window.observe(identity(1), at: 1 + Int64(gap)) == expected)
      }
    }
  }

  @Test("Identities that share the bits they are found by are told apart")
  func sharedHash() {
    var window = DedupeWindow(size: 64, startOffset: 0)
    var model = Model(size: 64)
    var random = SeededRandom(of: "sharedHash")
    for offset in Int64(0)..<4_000 {
      let name = Int.random(in: 0..<90, using: &random)
      // The names share one high half, or few slots at the end of the index, so that probes wrap
      // around.
      let high: UInt64 = name % 3 == 0 ? .max : (UInt64.max &- UInt64(name % 3) << 40)
      let found = window.observe(Identity(high: high, low: UInt64(name) << 1 | 1), at: offset)
      expect(found == model.observe(name, at: offset))
      window.checkInvariants()
    }
  }

  @Test("The index grows with the window's content and keeps what it holds")
  func growth() {
    let size = 50_000
    var window = DedupeWindow(size: size, startOffset: 0)
    for i in 0..<size { expect(!window.observe(identity(i), at: Int64(i))) }
    window.checkInvariants()
    expect(window.count == size)
    for i in 0..<size where !window.observe(identity(i), at: Int64(size + i)) {
      Issue.record("\(i) was forgotten")
    }
    window.checkInvariants()
    expect(window.count == size)
  }
}
