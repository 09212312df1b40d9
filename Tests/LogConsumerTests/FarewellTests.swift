import Foundation
import KafkaTransport
import Logging
import MeteringTestKit
import PostgresStore
import ServiceRuntime
import Synchronization
import Testing
import UsageAggregation

@testable import LogConsumer

/// A session that cannot leave Kafka. Its client may still be a member of the group and hold
/// partitions, so that only the end of the process helps.
@Suite struct FarewellTests {
  private final class Idle: LogProcessor, FlushWriter {
    typealias Writer = Idle

    func own(_ partitions: [OffsetStore.Stored], _ connection: PostgresConnection) {}
    func disown(_ partition: Int32) {}
    func shares(_ partitions: [Int32], isBehind: Bool) {}
    func review(_ batch: LogBatch, isBehind: Bool) -> FlushDecision<Void> { .keep }
    func seal(_ batch: LogBatch) {}
    func waitForRoom(_ stop: StopSignal) {}
    func append(
      _ cargo: Void, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
    ) -> Int { 0 }
    func statements(
      _ cargo: Void, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
    ) -> [SQLStatement] { [] }
    func stored(_ cargo: Void, _ batch: LogBatch?, rows: Int?) {}
  }

  private let health = HealthState()

  /// A consumer of a topic that is missing. Each of its sessions ends before it has begun.
  private func consumer(_ cluster: MockCluster, _ farewell: Farewell) throws -> LogConsumer<Idle> {
    let settings = try ConsumerSettings(
      Settings(environment: [
        "METER_KAFKA_BROKERS": cluster.bootstrapServers,
        "METER_DATABASE_URL": try TestDatabase().url,
      ]), group: "g", topic: "missing")
    return LogConsumer(
      settings: settings, health: health,
      metrics: ConsumerMetrics(MetricsRegistry(), topic: "missing"),
      logger: Logger(label: "test"), makeWriter: { Idle() }, makeProcessor: { Idle() },
      farewell: farewell)
  }

  @Test func `A session that cannot end within its time ends the process, with the reason`()
    async throws
  {
    let cluster = try MockCluster()
    let release = DispatchSemaphore(value: 0)
    let consumer = try consumer(
      cluster,
      Farewell(seconds: 0.2) {
        release.wait()
        $0.close()
      })
    let error = await #expect(throws: SessionProblem.self) { try await consumer.run() }
    #expect(error?.description.contains("hangs while it leaves the group") == true)
    #expect(!health.isReady)
    release.signal()
    withExtendedLifetime(cluster) {}
  }

  @Test func `A session that ends in time is followed by the next one`() async throws {
    let cluster = try MockCluster()
    let sessions = Mutex(0)
    let consumer = try consumer(
      cluster,
      Farewell {
        sessions.withLock { $0 += 1 }
        $0.close()
      })
    let run = Task { try await consumer.run() }
    try await eventuallyAsync { sessions.withLock { $0 } >= 2 }
    #expect(health.json().body.contains("meterctl topics apply"))
    run.cancel()
    try await run.value
    withExtendedLifetime(cluster) {}
  }

  @Test func `A process that stops waits for no client that hangs`() throws {
    let cluster = try MockCluster()
    let release = DispatchSemaphore(value: 0)
    let consumer = try KafkaConsumer(
      KafkaConfiguration(brokers: cluster.bootstrapServers), group: "g", clientID: "test")
    let farewell = Farewell(seconds: 0.1) {
      release.wait()
      $0.close()
    }
    #expect(farewell.leave(consumer, isStopping: true))
    release.signal()
    withExtendedLifetime(cluster) {}
  }

  private func eventuallyAsync(_ condition: @Sendable () -> Bool) async throws {
    for _ in 0..<3_000 where !condition() { try await Task.sleep(for: .milliseconds(10)) }
    #expect(condition())
  }
}
