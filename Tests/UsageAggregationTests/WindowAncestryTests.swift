import Testing
import UsageAggregation

@Suite struct WindowAncestryTests {
  private let parents: [Int32: WindowAncestry.Parent] = [
    4: .init(firstOffset: 0, parent: 0, parentOffset: 1_000),
    12: .init(firstOffset: 0, parent: 4, parentOffset: 30),
  ]

  @Test func `A child begins with its parent's last records, until its own fill the window`() {
    func segments(_ next: Int64) -> [WindowAncestry.Segment] {
      WindowAncestry.segments(of: 4, nextOffset: next, window: 100, parents: parents)
    }
    #expect(segments(0) == [.init(partition: 0, from: 900, to: 1_000, shift: -1_000)])
    #expect(segments(60) == [.init(partition: 0, from: 960, to: 1_000, shift: -1_000)])
    #expect(segments(100) == [])
    #expect(
      WindowAncestry.segments(of: 0, nextOffset: 1_000, window: 100, parents: parents) == [])
  }

  @Test func `A grandchild reaches through its parent to the first generation`() {
    let segments = WindowAncestry.segments(
      of: 12, nextOffset: 10, window: 100, parents: parents)
    #expect(
      segments == [
        .init(partition: 0, from: 940, to: 1_000, shift: -1_030),
        .init(partition: 4, from: 0, to: 30, shift: -30),
      ])
    // The oldest inherited record is exactly one window before the next offset.
    #expect(segments[0].from + segments[0].shift == 10 - 100)
  }
}
