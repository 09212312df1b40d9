import Testing

@testable import LogConsumer

@Suite struct MovementWatchTests {
  @Test func `A partition that brings nothing while its log goes on ends the session`() {
    var watch = MovementWatch()
    watch.looked(3, asked: 10, position: 10, logEnd: 20, at: 1_000)
    for look in 1..<MovementWatch.fetchLooks {
      watch.looked(3, asked: 10, position: 10, logEnd: 25, at: 100_000 + look)
    }
    #expect(watch.problem(at: 1_000 + MovementWatch.fetchMilliseconds) == nil)
    let found = watch.problem(at: 2_000 + MovementWatch.fetchMilliseconds)
    #expect(found?.isFinal == true)
    #expect(
      found?.text
        == "partition 3 is read from offset 10, its log goes on to 25, and nothing has come "
        + "for 151 s"
    )
  }

  @Test func `A session that was held up, and so has hardly looked, is no problem`() {
    var watch = MovementWatch()
    watch.looked(3, asked: 10, position: 10, logEnd: 20, at: 0)
    watch.looked(3, asked: 10, position: 10, logEnd: 20, at: 2 * MovementWatch.fetchMilliseconds)
    #expect(watch.problem(at: 2 * MovementWatch.fetchMilliseconds) == nil)
  }

  @Test func `A partition that moves, however slowly, is no problem`() {
    var watch = MovementWatch()
    var now = 0
    for position in Int64(0)..<100 {
      watch.looked(0, asked: position, position: position, logEnd: 1_000, at: now)
      #expect(watch.problem(at: now) == nil)
      now += MovementWatch.fetchMilliseconds - 1
    }
  }

  @Test(arguments: [(10, 10, 10), (10, 11, 20)])
  func `A partition that is read to its end, or moved while it was looked at, is no problem`(
    asked: Int64, position: Int64, logEnd: Int64
  ) {
    var watch = MovementWatch()
    watch.looked(0, asked: 10, position: 10, logEnd: 20, at: 0)
    watch.looked(0, asked: asked, position: position, logEnd: logEnd, at: 1)
    #expect(watch.problem(at: .max / 2) == nil)
  }

  @Test func `A partition that is not read any more is no problem`() {
    var watch = MovementWatch()
    watch.looked(0, asked: 10, position: 10, logEnd: 20, at: 0)
    watch.forget(0)
    #expect(watch.problem(at: .max / 2) == nil)
  }

  @Test func `A group that does not answer is reported, and after a while ends the session`() {
    var watch = MovementWatch()
    watch.waitsForGroup(at: 0)
    #expect(watch.problem(at: MovementWatch.groupNewsMilliseconds) == nil)
    // A second revocation does not begin the wait again.
    watch.waitsForGroup(at: MovementWatch.groupNewsMilliseconds)
    #expect(watch.problem(at: 61_000)?.text == "the group has not said what to read for 61 s")
    #expect(watch.problem(at: 61_000)?.isFinal == false)
    #expect(watch.problem(at: MovementWatch.groupMilliseconds + 1)?.isFinal == true)
    watch.groupAnswered()
    #expect(watch.problem(at: .max / 2) == nil)
  }
}
