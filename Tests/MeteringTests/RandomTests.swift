import Metering
import SystemRandom
import Testing

@Suite struct RandomTests {
  /// The first outputs of the authors' program for this seed.
  @Test func `SplitMix64 makes the same numbers as its authors' program`() {
    var random = SplitMix64(seed: 1_234_567)
    #expect(
      (0..<5).map { _ in random.next() } == [
        6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
        4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
      ])
  }

  @Test func `Random texts have their length and their letters, and never repeat`() {
    #expect(SystemRandom.bytes(32).count == 32)
    #expect(SystemRandom.hexadecimal().utf8.count == 32)
    #expect(SystemRandom.hexadecimal(bytes: 4).utf8.count == 8)
    #expect((1...13).contains(SystemRandom.base36().utf8.count))
    let secret = SystemRandom.base62("mtr_", bytes: 32)
    #expect(secret.hasPrefix("mtr_") && secret.utf8.count == 4 + 43)
    #expect(Set((0..<1_000).map { _ in SystemRandom.base62("", bytes: 8) }).count == 1_000)
    let id = Array(SystemRandom.uuid())
    #expect(id.count == 36 && id[14] == "4" && "89ab".contains(id[19]))
    #expect([8, 13, 18, 23].allSatisfy { id[$0] == "-" })
  }
}
