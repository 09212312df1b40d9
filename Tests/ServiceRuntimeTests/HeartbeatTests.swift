import Logging
import Testing

@testable import ServiceRuntime

@Suite struct HeartbeatTests {
  /// Every thread that does not rest counts as standing still a moment after its last sign.
  private let health = HealthState(threadPatienceMilliseconds: 0)

  private func letTimePass() {
    let start = Monotonic.milliseconds
    while Monotonic.milliseconds < start + 2 {}
  }

  @Test func `A vital thread that stands still ends readiness and life, and is named`() {
    let pulse = health.heartbeat("merger")
    letTimePass()
    #expect(!health.isReady)
    #expect(health.json().status == 503)
    #expect(
      health.json().body
        == #"{"status":"unavailable","problems":{"thread merger":"it has not moved for 0 s, and "#
        + #"the limit is 0 s"}}"#)
    #expect(health.liveJSON().status == 503)
    #expect(health.liveJSON().body.contains(#""stalled","problems":{"thread merger":"#))
    #expect(health.standstillCount == 1)
    pulse.rest()
    #expect(health.isReady && health.standstillCount == 0)
    #expect(health.liveJSON() == (200, #"{"status":"live"}"#))
  }

  @Test func `A helpful thread that stands still leaves the service degraded and alive`() {
    let pulse = health.heartbeat("listener", .helpful)
    letTimePass()
    #expect(health.isReady && health.isDegraded)
    #expect(health.json().status == 200)
    #expect(health.json().body.contains(#"{"status":"degraded","problems":{"thread listener":"#))
    #expect(health.liveJSON().status == 200)
    #expect(health.standstillCount == 1)
    pulse.rest()
    #expect(!health.isDegraded)
  }

  @Test func `A thread that beats is not missed, and one with more patience is missed later`() {
    let health = HealthState(threadPatienceMilliseconds: 100_000)
    let merger = health.heartbeat("merger", times: 3)
    let other = health.heartbeat("consumer")
    letTimePass()
    #expect(health.isReady)
    #expect(merger.limitMilliseconds == 300_000 && other.limitMilliseconds == 100_000)
    let silence = health.silences.first { $0.thread == "consumer" }
    #expect((silence?.milliseconds ?? 0) >= 2)
    other.rest()
    #expect(health.silences.first { $0.thread == "consumer" }?.milliseconds == 0)
  }

  @Test func `A thread of the same name takes the place of one that was given up`() {
    let old = health.heartbeat("flusher")
    letTimePass()
    #expect(!health.isReady)
    health.heartbeat("flusher").rest()
    #expect(health.isReady)
    old.beat()
    letTimePass()
    #expect(health.isReady)
  }

  @Test func `The metrics page says which thread has been silent`() {
    let registry = MetricsRegistry()
    _ = AdminServer(
      bind: BindAddress(host: "127.0.0.1", port: 0), health: health, metrics: registry,
      logger: Logger(label: "test"))
    _ = health.heartbeat("merger")
    health.heartbeat("writer").rest()
    letTimePass()
    let page = registry.render()
    #expect(page.contains("meter_threads_standing_still 1\n"))
    #expect(page.contains(#"meter_thread_silent_seconds{thread="writer"} 0"#))
    #expect(page.contains(#"meter_thread_silent_seconds{thread="merger"} 0.0"#))
  }
}

@Suite struct MonotonicConditionTests {
  @Test func `A wait ends when its time is over, and sooner when it is signaled`() {
    let condition = MonotonicCondition()
    condition.lock()
    #expect(!condition.wait(until: Monotonic.milliseconds - 1))
    let end = Monotonic.milliseconds + 20
    while condition.wait(until: end) {}
    #expect(Monotonic.milliseconds >= end)
    condition.unlock()

    let wakeup = Wakeup()
    let thread = WorkerThread("waker") { wakeup.wake() }
    #expect(wakeup.sleep(milliseconds: 600_000))
    thread.join()
    wakeup.stop()
    #expect(!wakeup.sleep(milliseconds: 600_000) && !wakeup.pause(milliseconds: 600_000))
  }
}
