import Foundation

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers from the same seed, on every machine.
package struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

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
}
