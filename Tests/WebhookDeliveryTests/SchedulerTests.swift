import MeteringTestKit
import Testing
import WebhookDelivery

@Suite struct SchedulerTests {
  typealias Scheduler = DeliveryScheduler<Int>

  static func limits(fast: Int = 8, slow: Int = 4, perEndpoint: Int = 4) -> Scheduler.Limits {
    var limits = Scheduler.Limits()
    limits.fastSlots = fast
    limits.slowSlots = slow
    limits.perEndpoint = perEndpoint
    return limits
  }

  @Test("An endpoint that never answered gets one request, and four once it has")
  func first() {
    var scheduler = Scheduler(limits: Self.limits())
    for n in 0..<10 { scheduler.add(n, endpoint: "a") }
    let begun = scheduler.next(now: 0)
    #expect(begun.map(\.work) == [0])
    scheduler.finished(begun[0].request, now: 5)
    #expect(scheduler.next(now: 5).map(\.work) == [1, 2, 3, 4])
    #expect(scheduler.next(now: 5).isEmpty)
    #expect(scheduler.waiting == 5 && scheduler.underway == 4)
  }

  @Test("Endpoints that hang move aside, and others begin")
  func hanging() {
    var scheduler = Scheduler(limits: Self.limits(fast: 4, slow: 8))
    for n in 0..<4 { scheduler.add(n, endpoint: "hang\(n)") }
    #expect(scheduler.next(now: 0).count == 4)
    scheduler.add(9, endpoint: "good")
    #expect(scheduler.next(now: 500).isEmpty)
    scheduler.tick(now: 1_000)
    #expect(scheduler.next(now: 1_000).map(\.work) == [9])
  }

  @Test("An endpoint that was slow last time begins on a slow slot, so fast ones keep theirs")
  func slow() {
    var scheduler = Scheduler(limits: Self.limits(fast: 1, slow: 1, perEndpoint: 1))
    scheduler.add(1, endpoint: "slow")
    let begun = scheduler.next(now: 0)
    scheduler.tick(now: 1_000)
    scheduler.finished(begun[0].request, now: 9_000)
    scheduler.add(2, endpoint: "slow")
    scheduler.add(3, endpoint: "good")
    #expect(Set(scheduler.next(now: 9_000).map(\.work)) == [2, 3])
  }

  @Test("A failure leaves an endpoint a single request until it answers again")
  func failing() {
    var scheduler = Scheduler(limits: Self.limits())
    for n in 0..<10 { scheduler.add(n, endpoint: "a") }
    let first = scheduler.next(now: 0)[0]
    #expect(scheduler.finished(first.request, now: 1, failed: true) == 1)
    let second = scheduler.next(now: 1)
    #expect(second.count == 1)
    #expect(scheduler.finished(second[0].request, now: 2, failed: true) == 2)
    let third = scheduler.next(now: 2)
    #expect(scheduler.finished(third[0].request, now: 3) == 0)
    #expect(scheduler.next(now: 3).count == 4)
  }

  @Test("While a failure is not written, nothing begins and nothing is claimed for its endpoint")
  func held() {
    var scheduler = Scheduler(limits: Self.limits())
    for n in 0..<2 { scheduler.add(n, endpoint: "a") }
    scheduler.add(9, endpoint: "b")
    let first = scheduler.next(now: 0)
    scheduler.hold(endpoint: "a")
    scheduler.hold(endpoint: "a")
    for begun in first { scheduler.finished(begun.request, now: 1, failed: begun.work == 0) }
    #expect(scheduler.next(now: 1).isEmpty)
    #expect(scheduler.rooms().contains { $0.endpoint == "a" && $0.room == 0 })
    #expect(scheduler.rooms().contains { $0.endpoint == "b" && $0.room > 0 })
    scheduler.forgetIdle(keeping: 0)
    scheduler.resume(endpoint: "a")
    #expect(scheduler.next(now: 2).isEmpty)
    scheduler.resume(endpoint: "a")
    #expect(scheduler.next(now: 2).map(\.work) == [1])
    scheduler.resume(endpoint: "a")
    scheduler.resume(endpoint: "nobody")
    #expect(scheduler.rooms().map(\.room) == [0])
  }

  @Test("What waits for an endpoint can be taken back")
  func withdraw() {
    var scheduler = Scheduler(limits: Self.limits())
    for n in 0..<3 { scheduler.add(n, endpoint: "a") }
    scheduler.add(9, endpoint: "b")
    _ = scheduler.next(now: 0)
    #expect(scheduler.withdraw(endpoint: "a") == [1, 2])
    #expect(scheduler.waiting == 0)
    #expect(scheduler.withdrawAll().isEmpty)
  }

  @Test("In any order of events no bound is passed, nothing is lost and nothing begins twice")
  func random() {
    var random = SeededRandom(of: "scheduler")
    for _ in 0..<200 {
      let limits = Self.limits(
        fast: Int.random(in: 1...6, using: &random), slow: Int.random(in: 1...6, using: &random),
        perEndpoint: Int.random(in: 1...4, using: &random))
      var scheduler = Scheduler(limits: limits)
      var now: Int64 = 0
      var added = 0
      var seen: Set<Int> = []
      var owner: [Int: String] = [:]
      var running: [(request: Int64, work: Int)] = []
      for _ in 0..<300 {
        now += Int64.random(in: 0...700, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
          let name = "e\(Int.random(in: 0..<5, using: &random))"
          owner[added] = name
          scheduler.add(added, endpoint: name)
          added += 1
        case 1 where !running.isEmpty:
          let index = Int.random(in: 0..<running.count, using: &random)
          scheduler.finished(running.remove(at: index).request, now: now)
        case 2:
          for work in scheduler.withdraw(endpoint: "e0") {
            let isNew = seen.insert(work).inserted
            #expect(isNew)
          }
        default: scheduler.tick(now: now)
        }
        for begun in scheduler.next(now: now) {
          let isNew = seen.insert(begun.work).inserted
          #expect(isNew)
          running.append(begun)
        }
        #expect(running.count <= limits.fastSlots + limits.slowSlots)
        #expect(scheduler.underway == running.count)
        let counts = Dictionary(grouping: running) { owner[$0.work] ?? "" }.mapValues(\.count)
        #expect(counts.values.allSatisfy { $0 <= limits.perEndpoint })
      }
      while scheduler.waiting > 0 || !running.isEmpty {
        for one in running { scheduler.finished(one.request, now: now) }
        running = scheduler.next(now: now)
        for begun in running {
          let isNew = seen.insert(begun.work).inserted
          #expect(isNew)
        }
      }
      #expect(seen.count == added)
    }
  }
}
