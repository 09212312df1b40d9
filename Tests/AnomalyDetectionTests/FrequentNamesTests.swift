import MeteringTestKit
import Testing

@testable import AnomalyDetection

struct FrequentNamesTests {
  @Test("No count is too high, and every name of more than its share has a counter")
  func bounds() {
    for seed in 1...20 as ClosedRange<UInt64> {
      var random = SeededRandom(seed: seed)
      var names = FrequentNames()
      var truth: [String: Int64] = [:]
      for _ in 0..<5_000 {
        // Half of all have one of twelve names, and the rest have thousands of names.
        let name = random.next() % 2 == 0 ? "h\(random.next() % 12)" : "r\(random.next() % 100_000)"
        names.insert(name)
        truth[name, default: 0] += 1
      }
      #expect(names.counters.count == FrequentNames.capacity)
      for counter in names.counters {
        let count = truth[counter.name] ?? 0
        #expect(counter.atLeast <= count && count <= counter.count)
      }
      let kept = Set(names.counters.map(\.name))
      for (name, count) in truth where count > 5_000 / Int64(FrequentNames.capacity) {
        #expect(kept.contains(name))
      }
    }
  }

  @Test("The top is ordered by what is certain, and is the same for the same stream")
  func order() {
    var names = FrequentNames()
    for name in ["a", "b", "b", "c", "c", "c", "d"] { names.insert(name) }
    #expect(names.top(3).map(\.name) == ["c", "b", "a"])
    #expect(names.top(3).map(\.atLeast) == [3, 2, 1])
    var again = FrequentNames()
    for name in ["a", "b", "b", "c", "c", "c", "d"] { again.insert(name) }
    #expect(names == again)
  }
}
