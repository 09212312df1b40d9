import KafkaTransport
import Testing

@Suite struct IdlePauseTests {
  @Test func `The pause is long only after a while without work, and short again immediately`() {
    var pause = IdlePause(patience: 3, busy: 5, quiet: 20)
    let empty = (0..<5).map { _ in pause.next(foundWork: false) }
    #expect(empty == [5, 5, 5, 20, 20])
    #expect(pause.next(foundWork: true) == 5)
    #expect(pause.next(foundWork: false) == 5)
  }
}
