import Foundation
import MeteringTestKit
import PostgresStore
import Synchronization
import Testing

/// A month can be closed while events flow all the time.
@Suite(.serialized)
struct CloseUnderTrafficTests {
  /// Forty producers. In every snapshot, events of exactly one of them are under way, and a moment
  /// later those of the next one.
  private final class Traffic: Sendable {
    private let isStopped = Atomic<Bool>(false)
    private let isOver = DispatchSemaphore(value: 0)
    let problem = Mutex<String?>(nil)
    static let producers = 40

    init(_ url: String) {
      Thread { [self] in
        do {
          try run(TestDatabase(url: url))
        } catch {
          problem.withLock { $0 = "\(error)" }
        }
        isOver.signal()
      }.start()
    }

    private func run(_ database: TestDatabase) throws {
      var turn = 0
      while !isStopped.load(ordering: .relaxed) {
        turn = (turn + 1) % Self.producers
        _ = try database.rows(
          """
          update producer_report set accepted = case when producer = $1 then 5 else 0 end,
            judged_at = case when producer = $1 then null else now() end, reported_at = now()
          """, [.text("producer-\(turn)")])
      }
    }

    func stop() {
      isStopped.store(true, ordering: .relaxed)
      isOver.wait()
    }
  }

  private func addProducers(_ setup: APISetup, _ names: [String], accepted: Int) throws {
    for name in names {
      _ = try setup.database.rows(
        """
        insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped,
          final, reported_at, log_epoch)
        values ('usage-aggregator', 'license.usage.v1', $1, $2::bigint, 0, 0, false, now(), 1)
        """, [.text(name), .int(accepted)])
    }
  }

  @Test
  func `A month that is over is closed while events of one or another producer are under way`()
    throws
  {
    let setup = try APISetup(environment: ["METER_CLOSE_GRACE": "0s"])
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', '2025-01-10 10:00Z', 7, 9,
        12, 1, '[5,12,1]', '');
      select usage_merge('{0}')
      """)
    try addProducers(setup, (0..<Traffic.producers).map { "producer-\($0)" }, accepted: 0)
    let traffic = Traffic(setup.database.url)
    defer { traffic.stop() }
    try eventually("events are under way") {
      try setup.database.integer("select sum(in_flight)::bigint from producer_ledger") == 5
    }
    let closed = try setup.request(
      "POST", "/v1/periods/close", body: #"{"ending_before":"2025-02-01"}"#)
    #expect(closed.status == 200 && closed["closed"] == "1", "\(closed.body)")
    #expect(try setup.database.integer("select sum(in_flight)::bigint from producer_ledger") == 5)
    #expect(traffic.problem.withLock { $0 } == nil)
  }

  @Test func `Events that stay under way prevent a close`() throws {
    let setup = try APISetup(environment: ["METER_CLOSE_GRACE": "0s"])
    try addProducers(setup, ["stuck"], accepted: 5)
    let preview = try setup.get("/v1/periods/close-preview?ending_before=2025-02-01")
    let blockers = preview.json["blockers"] as? [[String: String]] ?? []
    #expect(preview["ready"] == "0" && blockers.map { $0["code"] } == ["in_flight"])
    #expect(blockers.first?["detail"]?.contains("stuck") == true, "\(preview.body)")
  }
}
