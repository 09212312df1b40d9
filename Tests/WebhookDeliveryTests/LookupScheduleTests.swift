import Testing
import WebhookDelivery

@Suite struct LookupScheduleTests {
  private static func schedule() -> LookupSchedule {
    var limits = LookupSchedule.Limits()
    limits.fastSlots = 4
    limits.reservedSlots = 1
    limits.slowSlots = 10
    limits.slowAfterMilliseconds = 100
    return LookupSchedule(limits: limits)
  }

  @Test("A name is looked up once at a time, however often it is asked for")
  func once() {
    var schedule = Self.schedule()
    for _ in 0..<5 { schedule.add("a") }
    #expect(schedule.next(now: 0) == ["a"])
    schedule.add("a")
    #expect(schedule.next(now: 0).isEmpty)
    schedule.finished("a", now: 1, answered: true)
    schedule.add("a")
    #expect(schedule.next(now: 1) == ["a"])
  }

  @Test("Silent names leave the fast slots after a moment, and never come back to them")
  func silence() {
    var schedule = Self.schedule()
    for n in 0..<9 { schedule.add("silent\(n)") }
    schedule.add("new")
    var begun = schedule.next(now: 0)
    #expect(begun == ["silent0", "silent1", "silent2"])
    for now in [100, 200, 300] as [Int64] {
      schedule.tick(now: now)
      begun += schedule.next(now: now)
    }
    #expect(begun.contains("new") && begun.count == 10)
    for n in 0..<9 { schedule.finished("silent\(n)", now: 5_000, answered: false) }
    schedule.finished("new", now: 310, answered: true)
    for n in 0..<9 { schedule.add("silent\(n)") }
    schedule.add("another")
    #expect(schedule.next(now: 6_000).contains("another"))
  }

  @Test("A name that has answered before finds a slot, however many unknown ones wait")
  func reserved() {
    var schedule = Self.schedule()
    schedule.add("known")
    _ = schedule.next(now: 0)
    schedule.finished("known", now: 1, answered: true)
    for n in 0..<50 { schedule.add("unknown\(n)") }
    #expect(schedule.next(now: 2).count == 3)
    schedule.add("known")
    #expect(schedule.next(now: 2) == ["known"])
  }

  @Test("A name that no delivery waits for is not looked up")
  func withdrawn() {
    var schedule = Self.schedule()
    for name in ["a", "b", "c", "d"] { schedule.add(name) }
    #expect(schedule.next(now: 0) == ["a", "b", "c"])
    schedule.withdraw("d")
    schedule.finished("a", now: 1, answered: false)
    #expect(schedule.next(now: 1).isEmpty && schedule.waitingCount == 0)
    #expect(schedule.isUnderway("b") && !schedule.isUnderway("d"))
  }
}
