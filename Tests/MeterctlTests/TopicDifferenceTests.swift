import Testing

@testable import meterctl

@Suite struct TopicDifferenceTests {
  @Test func `A topic that was doubled once or more often is told from any other number`() {
    for found in [128, 256, 4_096] { #expect(TopicDifference.isDoubled(64, found), "\(found)") }
    for found in [1, 32, 63, 65, 96, 192] {
      #expect(!TopicDifference.isDoubled(64, found), "\(found)")
    }
  }
}
