import KafkaTransport
import Logging
import ServiceRuntime
import Testing

@testable import LogConsumer

/// Scripts of messages from librdkafka, and what `/health/ready` makes of them.
@Suite struct KafkaLifeTests {
  private let health = HealthState()

  private func life() throws -> KafkaLife {
    let settings = try ConsumerSettings(
      Settings(environment: [
        "METER_KAFKA_BROKERS": "127.0.0.1:9", "METER_DATABASE_URL": "postgresql:///x",
      ]), group: "g", topic: "t")
    return KafkaLife(health: health, settings: settings, logger: Logger(label: "test"))
  }

  private func error(_ code: Int32) -> KafkaError {
    KafkaError(code: code, operation: "fetch")
  }

  private let allBrokersDown: Int32 = -187
  private let transport: Int32 = -195
  private let topicRefused: Int32 = 29
  private let groupRefused: Int32 = 30

  @Test func `all brokers down is a problem from its first sign`() throws {
    var life = try life()
    life.met(error(allBrokersDown), at: 1_000)
    #expect(!health.isReady)
  }

  @Test func `silence is no evidence of life`() throws {
    var life = try life()
    life.met(error(allBrokersDown), at: 1_000)
    #expect(life.wantsProbe(at: 600_000) == true)
    #expect(!health.isReady)
  }

  @Test func `an answer to a question asked before the problem clears nothing`() throws {
    var life = try life()
    life.met(error(allBrokersDown), at: 1_000)
    life.isAlive(since: 999)
    #expect(!health.isReady)
    life.isAlive(since: 1_000)
    #expect(health.isReady)
    #expect(life.wantsProbe(at: 600_000) == false)
  }

  @Test func `one broker that is away is only suspected until somebody has asked`() throws {
    var life = try life()
    life.met(error(transport), at: 1_000)
    #expect(health.isReady)
    #expect(life.wantsProbe(at: 1_000) == true)
    life.isSilent(nil, at: 2_000)
    #expect(!health.isReady)
  }

  @Test func `a question is asked once a second`() throws {
    var life = try life()
    life.met(error(allBrokersDown), at: 10_000)
    #expect(life.wantsProbe(at: 10_000) == true)
    #expect(life.wantsProbe(at: 10_999) == false)
    #expect(life.wantsProbe(at: 11_000) == true)
  }

  @Test func `the next session takes back what the one before reported about Kafka`() throws {
    var first = try life()
    first.met(error(allBrokersDown), at: 1_000)
    first.met(error(groupRefused), at: 1_000)
    var second = try life()
    #expect(!health.isReady, "a new session is no evidence")
    second.isAlive(since: 2_000)
    second.groupAnswered()
    #expect(health.isReady)
  }

  @Test func `a refusal is reported as it is, whatever else fails`() throws {
    var life = try life()
    life.isSilent(error(topicRefused), at: 1_000)
    #expect(!health.isReady)
    #expect(health.json().body.contains("authorization"))
  }
}
