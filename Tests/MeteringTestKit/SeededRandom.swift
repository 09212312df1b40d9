import Foundation
import Metering

/// Random choices of a test. The same seed makes the same choices on every machine.
package struct SeededRandom: RandomNumberGenerator, Sendable {
  private var generator: SplitMix64

  package init(seed: UInt64) { generator = SplitMix64(seed: seed) }

  /// The generator of a test. The seed is made from the test's name, so it is the same in every
  /// run. `METER_TEST_SEED` replaces the seed, to try others or to repeat a run.
  package init(of test: String) {
    let given = ProcessInfo.processInfo.environment["METER_TEST_SEED"].flatMap { UInt64($0) }
    // FNV-1a, 64 bits.
    let seed =
      given
      ?? test.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    generator = SplitMix64(seed: seed)
    print("\(test): METER_TEST_SEED=\(seed)")
  }

  package mutating func next() -> UInt64 { generator.next() }

  /// `METER_TEST_SEED`, or a new seed for each run, which the test prints.
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
