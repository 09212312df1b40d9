import EventPublisher
import Foundation
import Logging
import MeteringTestKit
import Synchronization
import Testing

/// Reports of real producers decide whether a period can be closed. `EventPublisher` writes into a
/// log, and usage-aggregator counts it.
@Suite(.serialized)
struct CloseByReportsTests {
  /// A producer that publishes an event every few milliseconds until it is stopped.
  private final class Flow: Sendable {
    let publisher: EventPublisher
    private let isStopped = Atomic<Bool>(false)
    private let stopping = DispatchSemaphore(value: 0)
    private let isOver = DispatchSemaphore(value: 0)

    init(_ publisher: EventPublisher) {
      self.publisher = publisher
      Thread { [self] in
        repeat {
          publisher.publish(UsageEvent(source: "/test", subject: "lic_1"))
        } while stopping.wait(timeout: .now() + .milliseconds(2)) == .timedOut
        isOver.signal()
      }.start()
    }

    /// The publisher's last report contains the total that it accepted.
    func stop() {
      if isStopped.exchange(true, ordering: .relaxed) { return }
      stopping.signal()
      isOver.wait()
      publisher.stop()
    }
  }

  private func publisher(_ log: UsageLog, _ spool: String) throws -> EventPublisher {
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    return try EventPublisher(
      configuration: EventPublisher.Configuration(brokers: log.brokers, spoolDirectory: spool),
      logger: logger)
  }

  private func close(_ setup: APISetup, _ day: String) throws -> APISetup.Answer {
    try setup.request("POST", "/v1/periods/close", body: #"{"ending_before":"\#(day)"}"#)
  }

  @Test
  func
    `A producer's reports let a month be closed while its events flow, and a lost event does not`()
    throws
  {
    let log = try UsageLog(partitions: 1)
    let setup = try APISetup(environment: [
      "METER_KAFKA_BROKERS": log.brokers, "METER_CLOSE_GRACE": "0s",
    ])
    try setup.addLicense("lic_1")
    let aggregator = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    let spool = NSTemporaryDirectory() + "close-spool-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: spool) }  // The system clears it too.
    // This is the first life of the producer. The second begins with a report of what it took over.
    let first = try publisher(log, spool)
    for _ in 0..<50 { first.publish(UsageEvent(source: "/test", subject: "lic_1")) }
    first.stop()
    try log.waitUntilCounted(setup.database)
    try setup.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', '2025-01-10 10:00Z', 0, 0,
        12, 1, '[5,12,1]', '')
      """)

    let flow = Flow(try publisher(log, spool))
    defer { flow.stop() }
    try eventually(
      "a report of the second life is judged, and events were counted since", within: 30
    ) {
      try setup.database.rows(
        """
        select 1 from producer_ledger l
        join producer_report r using (consumer_group, topic, producer)
        where not r.final and r.judged_at is not null and l.counted > r.accepted
        """
      ).count == 1
    }
    let before = flow.publisher.statistics.usage.accepted
    let closed = try close(setup, "2025-02-01")
    #expect(closed.status == 200 && closed["closed"] == "1", "\(closed.body)")
    #expect(flow.publisher.statistics.usage.accepted > before, "events flow all the while")

    // The aggregator skips one event of the log, as if it had never come.
    aggregator.process.killNow()
    try eventually("events wait in the log") {
      try setup.database.integer(
        "select count(*) from consumer_offset where topic = 'license.usage.v1' and next_offset > 0")
        == 1 && log.ends()[0] > (setup.database.integer(Self.nextOffset) ?? 0) + 10
    }
    try setup.database.execute(
      "update consumer_offset set next_offset = next_offset + 1 where topic = 'license.usage.v1'")
    let successor = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    flow.stop()
    try eventually(
      "the last report is judged: \(successor.process.output.suffix(2_000))", within: 60
    ) {
      try setup.database.integer("select sum(missing)::bigint from producer_ledger") == 1
    }
    let refused = try close(setup, "2025-03-01")
    let blockers = refused.json["blockers"] as? [[String: String]] ?? []
    #expect(refused.status == 409 && refused["code"] == "not_ready", "\(refused.body)")
    #expect(blockers.contains { $0["code"] == "missing" }, "\(refused.body)")
    #expect(try setup.get("/v1/usage?range=last_24h")["missing"] == "1")
  }

  private static let nextOffset =
    "select next_offset from consumer_offset where topic = 'license.usage.v1'"
}
