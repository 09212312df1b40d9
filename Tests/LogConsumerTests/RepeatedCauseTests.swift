import Testing

@testable import LogConsumer

@Suite struct RepeatedCauseTests {
  @Test func `a cause is reported when it is new, and then with its count every half minute`() {
    var repeated = RepeatedCause()
    #expect(repeated.note("away", at: 0) == 1)
    #expect(repeated.note("away", at: 1) == nil)
    #expect(repeated.note("away", at: 29_999) == nil)
    #expect(repeated.note("away", at: 30_000) == 3)
    #expect(repeated.note("away", at: 30_001) == nil)
  }

  @Test func `another cause is news`() {
    var repeated = RepeatedCause()
    #expect(repeated.note("away", at: 0) == 1)
    #expect(repeated.note("refused", at: 1) == 1)
  }

  @Test func `a cause that was gone is news again`() {
    var repeated = RepeatedCause()
    _ = repeated.note("away", at: 0)
    repeated.clear()
    #expect(repeated.note("away", at: 1) == 1)
  }

  @Test func `causes that never repeat take no memory without end`() {
    var repeated = RepeatedCause()
    for n in 0..<100 { #expect(repeated.note("cause \(n)", at: 0) == 1) }
    // The oldest causes were forgotten, so they are reported again.
    #expect(repeated.note("cause 0", at: 1) == 1)
  }
}
