import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// How an application's trace travels through every process.
  @Suite struct TraceTests {
    private static let first = "4bf92f3577b34da6a3ce929d0e0e4736"
    private static let second = "0af7651916cd43dd8448eb211c80319c"

    private static func traceparent(_ trace: String) -> String { "00-\(trace)-00f067aa0ba902b7-01" }

    @Test
    func `A request's trace reaches the alerts that it leads to, their webhooks and explain`()
      throws
    {
      let pipeline = try Pipeline(partitions: 2)
      let database = pipeline.database
      try database.addLicense("lic_1", domains: ["example.com"])
      try database.execute("insert into license_limit values ('lic_1', 'api_calls', 3)")
      let hook = try HookAnswerer()
      let key = Data(repeating: 7, count: 32).base64EncodedString()
      let webhooks = [
        "METER_DATABASE_URL": database.url, "METER_ENCRYPTION_KEY": key,
        "METER_WEBHOOK_ALLOW_HTTP": "true", "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
      ]
      let added = try ChildProcess(
        ChildProcess.product("meterctl"),
        ["endpoint", "add", "--all-customers", "--url", "http://127.0.0.1:\(hook.port)/"],
        environment: webhooks)
      #expect(added.wait() == 0)
      let consumers = try [
        pipeline.start(), pipeline.startDetector(),
        pipeline.start("webhook-dispatcher", environment: webhooks),
      ]
      let validation = try ValidationProcess(
        brokers: pipeline.log.brokers, databaseURL: database.url)
      for process in consumers { try process.waitUntilReady() }
      try eventually("validation answers; \(validation.process.output.suffix(2_000))") {
        validation.validate("lic_2", domain: "example.com")?.contains("not_found") == true
      }

      for _ in 0..<3 {
        let answer = validation.validate(
          "lic_1", domain: "example.com",
          header: "traceparent: \(Self.traceparent(Self.first))\r\n")
        #expect(answer?.contains(#""valid":true"#) == true)
      }
      // An invalid trace context is no reason to refuse a request, and is not passed on.
      for header in ["nonsense", Self.traceparent(Self.first) + ", x"] {
        _ = validation.validate(
          "lic_1", domain: "example.com", header: "traceparent: \(header)\r\n")
      }
      let mismatch = validation.validate(
        "lic_1", domain: "stolen.example.net",
        header: "traceparent: \(Self.traceparent(Self.second))\r\n")
      #expect(mismatch?.contains("domain_mismatch") == true)

      func sent(_ type: String, _ trace: String) -> Bool {
        hook.requests.contains { request in
          request.contains("\r\ntraceparent: 00-\(trace)-")
            && !request.contains(Self.traceparent(trace))
            && request.contains(#""type":"\#(type)""#)
        }
      }
      try eventually("both webhooks carry the traces; \(hook.requests)") {
        sent("license.limit_exceeded", Self.first)
          && sent("license.suspicious_activity", Self.second)
      }
      #expect(
        try database.rows(
          "select distinct coalesce(evidence->>'traceparent', evidence->0->>'traceparent') from alert order by 1"
        ) == [[Self.traceparent(Self.second)], [Self.traceparent(Self.first)]])
      #expect(!hook.requests.contains { $0.contains("traceparent\":") })

      let now = UsageEventText.now
      func minute(_ milliseconds: Int64) -> String {
        UsageEventText.time(milliseconds: milliseconds / 60_000 * 60_000)
      }
      let explained = try Meterctl.run(
        [
          "explain", "--license", "lic_1", "--from", minute(now - 600_000),
          "--to", minute(now + 120_000), "--json",
        ], pipeline)
      #expect(explained.exit == 0)
      #expect(
        explained.output.components(separatedBy: Self.traceparent(Self.first)).count == 4,
        "\(explained.output)")
      for process in consumers { try pipeline.expectStops(process) }
    }

    @Test
    func `A death between flush and merge, or before the flush, leaves the alert its trace`() throws
    {
      let pipeline = try Pipeline(partitions: 1)
      let database = pipeline.database
      for n in 0..<3 {
        try database.addLicense("lic_\(n)")
        try database.execute("insert into license_limit values ('lic_\(n)', 'api_calls', 10)")
      }
      func send(_ license: Int) throws {
        var event = UsageEventText(id: "e\(license)", subject: "lic_\(license)")
        event.quantity = 10
        let json = event.json(changing: [
          "traceparent": "\"00-\(Self.first)-000000000000000\(license + 1)-01\""
        ])
        try pipeline.log.send(key: event.subject, value: Array(json.utf8))
        try pipeline.log.flush()
      }
      // Nobody merges, and no hint asks for a merge, because these limits have no usage yet.
      let environment = ["METER_MERGE_INTERVAL": "10m"]
      var aggregator = try pipeline.start(environment: environment)
      try aggregator.waitUntilReady()
      try send(0)
      try pipeline.waitUntilCounted()
      aggregator.process.signal(SIGKILL)
      _ = aggregator.process.wait()
      // This one is killed at whatever point it has reached.
      aggregator = try pipeline.start(environment: environment)
      try send(1)
      aggregator.process.signal(SIGKILL)
      _ = aggregator.process.wait()
      try send(2)
      aggregator = try pipeline.start()
      try pipeline.waitUntilCounted()
      try eventually("three alerts of the whole limit") {
        try database.integer(
          "select count(*) from alert where data->>'threshold_percent' = '100'") == 3
      }
      let rows = try database.rows(
        """
        select license_id, evidence->0->>'traceparent' from alert
        where data->>'threshold_percent' = '100' order by 1
        """)
      #expect(
        rows == (0..<3).map { ["lic_\($0)", "00-\(Self.first)-000000000000000\($0 + 1)-01"] })
      #expect(try database.integer("select count(*) from usage_trace") == 0)
      try pipeline.expectStops(aggregator)
    }
  }
}
