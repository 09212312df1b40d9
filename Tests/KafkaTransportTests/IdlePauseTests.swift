import KafkaTransport
import Testing

@Suite struct IdlePauseTests {
  @Test func `It is long only while nothing was found for a while, and short again at once`() {
    var pause = IdlePause(patience: 3, busy: 5, quiet: 20)
    let empty = (0..<5).map { _ in pause.next(foundWork: false) }
    #expect(empty == [5, 5, 5, 20, 20])
    #expect(pause.next(foundWork: true) == 5)
    #expect(pause.next(foundWork: false) == 5)
  }
}
