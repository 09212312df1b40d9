import Foundation
import MeteringTestKit
import Testing

/// Where the pages show the trace that led to an alert.
@Suite struct PageTraceTests {
  @Test func `the alert's page shows its trace, and the delivery's page what each attempt sent`()
    throws
  {
    let fixture = try AdministrationFixture()
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    try fixture.setup.database.execute(
      """
      update alert set evidence = '[{"partition":3,"traceparent":"\(trace)"}]'
        where alert_id = \(fixture.alert);
      insert into webhook_attempt (delivery_id, attempt, at, status_code, duration_ms)
        values (\(fixture.delivery), 1, now(), 500, 7), (\(fixture.delivery), 2, now(), 204, 5);
      """)
    let reader = try PageReader(fixture.setup)
    let alert = try reader.get("/alerts/\(fixture.alert)")
    #expect(alert.status == 200 && alert.body.contains(trace), "\(alert.body)")

    let delivery = try reader.get("/deliveries/\(fixture.delivery)")
    #expect(delivery.status == 200)
    let stored = try fixture.setup.get("/v1/webhook-deliveries/\(fixture.delivery)")
    let attempts = stored.json["attempt_log"] as? [[String: Any]] ?? []
    let headers = attempts.compactMap { $0["traceparent"] as? String }
    #expect(Set(headers).count == 2, "each attempt is a separate span: \(stored.body)")
    for header in headers {
      #expect(header.hasPrefix(trace.prefix(36)) && header != trace, "\(header)")
      #expect(delivery.body.contains(header), "\(header)")
    }
  }
}
