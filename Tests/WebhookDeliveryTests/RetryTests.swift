import MeteringTestKit
import Testing
import WebhookDelivery

@Suite struct RetryTests {
  @Test("The schedule is the promised one, and ends after the tenth attempt")
  func schedule() {
    let seconds = (1...10).map {
      RetrySchedule.delayMilliseconds(failures: $0, jitter: 0).map { $0 / 1_000 }
    }
    #expect(seconds == [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000, 86_400, 86_400, nil])
    #expect(RetrySchedule.delayMilliseconds(failures: 0, jitter: 0) == nil)
    #expect(RetrySchedule.delayMilliseconds(failures: .max, jitter: 0) == nil)
  }

  @Test("Jitter stays within a fifth", arguments: [-9.0, -1, -0.5, 0, 0.5, 1, 9, .nan, .infinity])
  func jitter(_ jitter: Double) throws {
    let delay = try #require(RetrySchedule.delayMilliseconds(failures: 1, jitter: jitter))
    #expect((4_000...6_000).contains(delay))
  }

  @Test("A receiver may ask for a longer wait of up to a day, and never for a shorter one")
  func retryAfter() {
    func delay(_ asked: Int64) -> Int64? {
      RetrySchedule.delayMilliseconds(failures: 1, jitter: 0, retryAfterMilliseconds: asked)
    }
    #expect(delay(60_000) == 60_000)
    #expect(delay(0) == 5_000)
    #expect(delay(-1) == 5_000)
    #expect(delay(.max) == 86_400_000)
  }

  @Test("Retry-After is read as seconds or as an HTTP date")
  func parse() {
    let now: Int64 = 784_111_777_000  // Sun, 06 Nov 1994 08:49:37 GMT
    func wait(_ text: String) -> Int64? { RetryAfter.milliseconds(text, nowMilliseconds: now) }
    #expect(wait("120") == 120_000)
    #expect(wait(" 0 ") == 0)
    #expect(wait("99999999999999999999999") == 1_099_511_627_776_000)
    #expect(wait("Sun, 06 Nov 1994 08:49:47 GMT") == 10_000)
    #expect(wait("Sun, 06 Nov 1994 08:49:07 GMT") == 0)
    // These are the formats of RFC 850 and asctime, which recipients must read too.
    #expect(wait("Sunday, 06-Nov-94 08:49:47 GMT") == 10_000)
    #expect(wait("Sun Nov  6 08:49:47 1994") == 10_000)
    #expect(wait("Wed Nov 16 08:49:37 1994") == 864_000_000)
    // A year of two digits is within the next 50 years, or in the past.
    #expect(wait("Monday, 06-Nov-95 08:49:37 GMT") == 31_536_000_000)
    #expect(wait("Sunday, 06-Nov-44 08:49:37 GMT") == 1_577_923_200_000)
    #expect(wait("Monday, 06-Nov-45 08:49:37 GMT") == 0)
    #expect(wait("Fri, 31 Dec 9999 23:59:59 GMT") != nil)
    for bad in [
      "", "-1", "1.5", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06-Nov-94 08:49:37 GMT",
      "Sunday, 06-Nov-94 08:49:37", "Sun Nov 6 08:49:37 1994", "Sun Nov  6 08:49:37 94",
      "Sunday Nov  6 08:49:37 1994", String(repeating: " x", count: 1_000),
      "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 6  Nov 1994 08:49:37 GMT",
      "Xxx, 06 Nov 1994 08:49:37 GMT",
    ] { #expect(wait(bad) == nil, "\(bad)") }
  }

  @Test(
    "The fifth failure in a row opens the breaker; each failed probe doubles the wait, to 5 min")
  func breaker() {
    var health = EndpointHealth()
    var waits: [Int64] = []
    var now: Int64 = 0
    for n in 0..<12 {
      let probe = EndpointHealth.Report(.failure, isProbe: n >= 5)
      #expect(health.take(probe, atMilliseconds: now) == .none)
      waits.append(health.openUntilMilliseconds.map { ($0 - now) / 1_000 } ?? 0)
      now = health.openUntilMilliseconds ?? now + 1
    }
    #expect(waits == [0, 0, 0, 0, 10, 20, 40, 80, 160, 300, 300, 300])
  }

  @Test("Requests that were under way when the breaker opened do not make its wait longer")
  func underway() {
    var health = EndpointHealth()
    let hung = [EndpointHealth.Report](repeating: .init(.failure), count: 8)
    #expect(health.take(hung, atMilliseconds: 0) == .none)
    #expect(health.openUntilMilliseconds == 10_000 && health.consecutiveFailures == 5)
    // Requests of another dispatcher may end after the first probe began.
    #expect(health.take(hung, atMilliseconds: 11_000) == .none)
    #expect(health.openUntilMilliseconds == 10_000 && health.consecutiveFailures == 5)
    // If such a request is asked to wait, that still holds.
    _ = health.take(.init(.paused(milliseconds: 60_000)), atMilliseconds: 12_000)
    #expect(health.openUntilMilliseconds == 72_000 && health.consecutiveFailures == 5)
    _ = health.take(.init(.success), atMilliseconds: 13_000)
    #expect(health == EndpointHealth())
  }

  @Test("A success forgets all failures")
  func success() {
    var health = EndpointHealth()
    for n in 0..<9 { _ = health.take(.init(.failure), atMilliseconds: Int64(n)) }
    #expect(health.take(.init(.success), atMilliseconds: 10) == .none)
    #expect(health == EndpointHealth())
    _ = health.take([.init(.failure), .init(.success), .init(.failure)], atMilliseconds: 11)
    #expect(health == EndpointHealth())
  }

  @Test("A receiver that asks for a pause opens the breaker until then, even beside a success")
  func pause() {
    var health = EndpointHealth()
    #expect(health.take(.init(.paused(milliseconds: 60_000)), atMilliseconds: 5) == .none)
    #expect(health.openUntilMilliseconds == 60_005 && health.consecutiveFailures == 1)
    _ = health.take([.init(.paused(milliseconds: 90_000)), .init(.success)], atMilliseconds: 10)
    #expect(health.openUntilMilliseconds == 90_010 && health.consecutiveFailures == 1)
    _ = health.take(.init(.paused(milliseconds: .max)), atMilliseconds: 10)
    #expect(health.openUntilMilliseconds == 86_400_010)
    health = EndpointHealth()
    _ = health.take(.init(.paused(milliseconds: 0)), atMilliseconds: 10)
    #expect(health.openUntilMilliseconds == nil)
  }

  @Test(
    "Five days of nothing but failure disable, but a pause of five days between failures does not"
  )
  func disabling() {
    let day: Int64 = 86_400_000
    var health = EndpointHealth()
    _ = health.take(.init(.failure), atMilliseconds: 0)
    #expect(health.take(.init(.failure), atMilliseconds: 6 * day) == .none)
    health = EndpointHealth()
    for n in 0..<20 {
      let probe = EndpointHealth.Report(.failure, isProbe: n >= 5)
      #expect(health.take(probe, atMilliseconds: Int64(n) * 3_600_000) == .none)
    }
    let probe = EndpointHealth.Report(.failure, isProbe: true)
    #expect(health.take(probe, atMilliseconds: 5 * day - 1) == .none)
    #expect(health.take(probe, atMilliseconds: 5 * day) == .disable(reason: .failing))
  }

  @Test("A 410 disables immediately, whatever else a batch brought")
  func gone() {
    var health = EndpointHealth()
    #expect(
      health.take([.init(.success), .init(.gone), .init(.failure)], atMilliseconds: 1)
        == .disable(reason: .gone))
  }
}
