import Foundation

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers from the same seed, on every machine.
package struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  /// One generator a test, the same in every run. `METER_TEST_SEED` replaces the seed, to look elsewhere or to come back.
  package init(of test: String) {
    let given = ProcessInfo.processInfo.environment["METER_TEST_SEED"].flatMap { UInt64($0) }
    state = given ?? 20_260_729
    print("\(test): METER_TEST_SEED=\(state)")
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// `METER_TEST_SEED`, or a new one each run; the test prints it.
  package static func testSeed() -> UInt64 {
    ProcessInfo.processInfo.environment["METER_TEST_SEED"].flatMap { UInt64($0) }
      ?? UInt64.random(in: 1...UInt64(UInt32.max))
  }

  package mutating func chance(_ percent: Int) -> Bool {
    Int.random(in: 0..<100, using: &self) < percent
  }

  package mutating func pick<T>(_ choices: [T]) -> T { choices.randomElement(using: &self)! }

  package mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
  }
}
