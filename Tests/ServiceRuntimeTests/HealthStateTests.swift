import Testing

@testable import ServiceRuntime

@Suite struct HealthStateTests {
  @Test func `Without reports the service is ready`() {
    let health = HealthState()
    #expect(health.isReady)
    #expect(health.json().status == 200)
    #expect(health.json().body == #"{"status":"ready","problems":{}}"#)
  }

  @Test func `A problem makes it unavailable until it is gone`() {
    let health = HealthState()
    health.report("postgres", problem: "connection \"refused\"\n")
    health.report("kafka", problem: "no brokers")
    #expect(!health.isReady)
    #expect(health.json().status == 503)
    #expect(
      health.json().body
        == #"{"status":"unavailable","problems":{"kafka":"no brokers","#
        + #""postgres":"connection \"refused\"\n"}}"#)
    health.report("postgres", problem: nil)
    health.report("kafka", problem: nil)
    #expect(health.isReady)
    #expect(health.json().body == #"{"status":"ready","problems":{}}"#)
  }

  @Test func `A degraded component leaves it ready, and a problem outweighs it`() {
    let health = HealthState()
    health.degraded("postgres", problem: "slow")
    #expect(health.isReady)
    #expect(health.json().status == 200)
    #expect(health.json().body == #"{"status":"degraded","problems":{"postgres":"slow"}}"#)
    health.report("postgres", problem: "down")
    #expect(health.json().status == 503)
    #expect(health.json().body == #"{"status":"unavailable","problems":{"postgres":"down"}}"#)
    health.report("postgres", problem: nil)
    #expect(health.json().body == #"{"status":"degraded","problems":{"postgres":"slow"}}"#)
  }
}
