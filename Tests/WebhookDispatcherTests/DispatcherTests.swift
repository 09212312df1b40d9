import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing
import WebhookDelivery

/// All parts together: PostgreSQL, `webhook-dispatcher` as a process, and endpoints.
@Suite(.serialized) struct DispatcherTests {
  final class Setup {
    let database: TestDatabase
    let server: HookServer
    let box: SecretBox
    var processes: [ChildProcess] = []

    init() throws {
      database = try TestDatabase()
      server = try HookServer()
      box = try SecretBox(base64Key: WebhookClientTests.key)
      try database.addLicense("lic_1")
    }

    deinit {
      for process in processes where process.isRunning { process.killNow() }
      server.end()
    }

    @discardableResult
    func start(_ environment: [String: String] = [:]) throws -> ChildProcess {
      let port = try FreePort.next()
      let all = [
        "METER_DATABASE_URL": database.url, "METER_ENCRYPTION_KEY": WebhookClientTests.key,
        "METER_ADMIN_BIND": "127.0.0.1:\(port)", "METER_WEBHOOK_ALLOW_HTTP": "true",
        "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", "METER_WEBHOOK_TIMEOUT": "2s",
        "METER_WEBHOOK_LEASE": "4s", "METER_EXPIRY_SWEEP_INTERVAL": "200ms",
      ].merging(environment) { $1 }
      let process = try ChildProcess(ChildProcess.product("webhook-dispatcher"), environment: all)
      processes.append(process)
      return process
    }

    func endpoint(_ id: String, _ path: String, customer: String? = "cus_test") throws {
      let secret = try SigningSecret(scheme: .v1, bytes: Array(0..<32))
      if let customer {
        _ = try database.rows(
          "insert into customer (customer_id, name) values ($1, $1) on conflict do nothing",
          [.text(customer)])
      }
      try EndpointStore(database.connection()).add(
        id: id, customer: customer, url: server.url(path), events: [], signing: "v1",
        sealedSecret: box.seal(secret, endpoint: id, nonce: Array(0..<12)))
    }

    func raise(_ count: Int, from first: Int = 0) throws {
      try database.execute(
        """
        select alert_raise('license.limit_exceeded', 'lic_1', now(), '{"meter":"api_calls"}', 'k' || n)
        from generate_series(\(first), \(first + count - 1)) n
        """)
    }

    func count(_ status: String, _ endpoint: String) throws -> Int64 {
      try database.integer(
        "select count(*) from webhook_delivery where status = '\(status)' and endpoint_id = '\(endpoint)'"
      ) ?? -1
    }
  }

  @Test("An alert reaches the customer's and the vendor's endpoint immediately, and each once")
  func delivered() throws {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/a")
    try setup.endpoint("ep_v", "/v", customer: nil)
    try setup.endpoint("ep_other", "/other", customer: "cus_other")
    // Only the notification can announce it, because no poll comes before the wait below ends.
    let process = try setup.start(["METER_WEBHOOK_POLL_INTERVAL": "60s"])
    try eventually("somebody listens") {
      try setup.database.integer(
        """
        select count(*) from pg_stat_activity where datname = current_database()
          and application_name = 'webhook-dispatcher-listen' and query like 'listen %' and state = 'idle'
        """) == 1
    }
    try setup.raise(1)
    try eventually("both have heard of it; \(process.output)") { setup.server.received.count >= 2 }
    try eventually("both are recorded") {
      try setup.count("delivered", "ep_a") == 1 && setup.count("delivered", "ep_v") == 1
    }
    let got = setup.server.received
    #expect(Set(got.map(\.path)) == ["/a", "/v"] && Set(got.map(\.id)).count == 2)
    #expect(
      got[0].body.contains(#""event":"license.limit_exceeded","type":"license.limit_exceeded""#))
    #expect(got[0].body.contains(#""license_id":"lic_1""#))
    try setup.raise(1)
    #expect(try setup.database.integer("select count(*) from alert") == 1)
    process.signal(SIGTERM)
    #expect(process.wait() == 0)
  }

  @Test
  func `With METER_PUBLIC_URL a webhook names its alert's page, and to a customer the portal's`()
    throws
  {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/a")
    try setup.endpoint("ep_v", "/v", customer: nil)
    let process = try setup.start([
      "METER_PUBLIC_URL": "https://meter.example", "METER_BASE_PATH": "/billing",
    ])
    try setup.raise(1)
    try eventually("both have heard of it; \(process.output)") { setup.server.received.count >= 2 }
    let alert = try #require(try setup.database.integer("select alert_id from alert"))
    for (path, page) in [("/a", "portal/alerts"), ("/v", "alerts")] {
      let body = setup.server.received.first { $0.path == path }?.body ?? ""
      #expect(
        body.contains(#""url":"https://meter.example/billing/\#(page)/\#(alert)","#), "\(body)")
    }
  }

  @Test
  func `A webhook continues the trace of its alert, each attempt as a separate span`() throws {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/a")
    try setup.start()
    let cause = try #require(
      TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    func raise(_ key: String, _ evidence: String?) throws -> HookServer.Received {
      let before = setup.server.received.count
      try setup.database.execute(
        """
        select alert_raise('license.limit_exceeded', 'lic_1', now(), '{"meter":"api_calls"}', '\(key)',
          \(evidence.map { "'\($0)'" } ?? "null"))
        """)
      try eventually("it is sent") { setup.server.received.count > before }
      return setup.server.received[before]
    }
    // The evidence is one place in the log, or a list of places.
    let suspicious = try raise("a", #"{"partition":1,"traceparent":"\#(cause.traceparent)"}"#)
    let limit = try raise(
      "b", #"[{"partition":1},{"partition":2,"traceparent":"\#(cause.traceparent)"}]"#)
    for received in [suspicious, limit] {
      let sent = received.headers["traceparent"].flatMap { TraceContext($0) }
      #expect(
        sent == WebhookTrace.context(of: cause, webhookID: received.id, attempt: 1))
      #expect(sent?.traceIDText == cause.traceIDText && sent?.spanID != cause.spanID)
      #expect(!received.body.contains("traceparent"))
    }
    // Text that is no trace never becomes a header.
    for (key, evidence) in [("c", #"[{"traceparent":"00-\r\nx: y"}]"#), ("d", nil)] {
      #expect(try raise(key, evidence).headers["traceparent"] == nil)
    }
    try eventually("all are recorded") { try setup.count("delivered", "ep_a") == 4 }
    let store = try EndpointStore(setup.database.connection())
    let id = try #require(
      try setup.database.rows(
        "select delivery_id from webhook_delivery where webhook_id = $1", [.text(limit.id)]
      ).first?[0].flatMap { Int64($0) })
    #expect(try store.redeliver(id))
    try eventually("it is sent again") { setup.server.received.count == 5 }
    let again = setup.server.received[4].headers["traceparent"]
    #expect(
      again
        == WebhookTrace.context(of: cause, webhookID: limit.id, attempt: 2).traceparent)
    #expect(again != limit.headers["traceparent"])
    #expect(try store.delivery(id)?.trace == cause)
  }

  @Test("Endpoints that hang or fail hold up no other, and each has few connections")
  func fairness() throws {
    let setup = try Setup()
    for n in 0..<20 { try setup.endpoint("ep_hang\(n)", "/hang") }
    try setup.endpoint("ep_fail", "/fail")
    try setup.endpoint("ep_good", "/good")
    try setup.start(["METER_WEBHOOK_CONCURRENCY": "8"])
    try setup.raise(100)
    try eventually("the good one has all", within: 20) {
      try setup.count("delivered", "ep_good") == 100
    }
    try eventually("the failing one's breaker is open", within: 20) {
      try setup.database.integer(
        "select count(*) from webhook_endpoint where endpoint_id = 'ep_fail' and open_until is not null"
      ) == 1
    }
    // Each of four connections may have failed when the breaker opens. Since then there were one or
    // two probes.
    #expect(setup.server.received.count { $0.path == "/fail" } <= 12)
  }

  @Test(
    "If a dispatcher is killed in mid-delivery, another sends the same webhook-id after the lease")
  func killed() throws {
    let setup = try Setup()
    try setup.endpoint("ep_slow", "/slow")
    let first = try setup.start()
    try setup.raise(1)
    try eventually("under way") { setup.server.received.count == 1 }
    first.killNow()
    #expect(try setup.count("pending", "ep_slow") == 1)
    try setup.start()
    try eventually("delivered", within: 30) { try setup.count("delivered", "ep_slow") == 1 }
    #expect(Set(setup.server.received.map(\.id)).count == 1 && setup.server.received.count == 2)
  }

  @Test("Several dispatchers share the work: everything arrives, nothing twice")
  func shared() throws {
    let setup = try Setup()
    for n in 0..<5 { try setup.endpoint("ep_\(n)", "/\(n)") }
    for _ in 0..<3 { try setup.start() }
    try setup.raise(400)
    try eventually("all are delivered", within: 60) {
      try setup.database.integer("select count(*) from webhook_delivery where status = 'delivered'")
        == 2_000
    }
    let ids = setup.server.received.map(\.id)
    #expect(Set(ids).count == 2_000 && ids.count == 2_000)
  }

  @Test(
    "410 disables the endpoint, raises an alert for the others, and discards pending deliveries"
  )
  func gone() throws {
    let setup = try Setup()
    try setup.endpoint("ep_gone", "/gone")
    try setup.endpoint("ep_v", "/v", customer: nil)
    try setup.raise(20)
    try setup.start()
    try eventually("disabled") {
      try setup.database.rows(
        "select disabled_reason from webhook_endpoint where endpoint_id = 'ep_gone' and status = 'disabled'"
      ).first?[0] == "gone"
    }
    try eventually("the rest is discarded") { try setup.count("pending", "ep_gone") == 0 }
    try eventually("the vendor hears of it") {
      setup.server.received.contains {
        $0.path == "/v" && $0.body.contains("webhook.endpoint_disabled")
          && $0.body.contains("ep_gone")
      }
    }
  }

  @Test(
    "The breaker probes, and deliveries flow when the endpoint is back; redeliver and recover send again"
  )
  func recovery() throws {
    let setup = try Setup()
    try setup.endpoint("ep_dead", "/dead")
    try setup.raise(50)
    try setup.start()
    try eventually("open") {
      try setup.database.integer(
        "select count(*) from webhook_endpoint where open_until is not null") == 1
    }
    // A failure that was under way when the breaker opened would keep it open for longer.
    try eventually("nothing is under way") {
      try setup.database.integer("select count(*) from webhook_delivery where lease is not null")
        == 0
    }
    let before = setup.server.received.count
    #expect(before <= 12)
    setup.server.heal()
    // The probe is due, and so are the retries that failed.
    try setup.database.execute(
      """
      update webhook_endpoint set open_until = now();
      update webhook_delivery set next_attempt_at = now() where status = 'pending' and lease is null
      """)
    try eventually("all are delivered", within: 20) {
      try setup.count("delivered", "ep_dead") == 50
    }
    #expect(
      try setup.database.integer(
        "select count(*) from webhook_endpoint where consecutive_failures = 0") == 1)
    let store = EndpointStore(try setup.database.connection())
    #expect(try store.redeliver(1))
    try eventually("sent again") {
      try setup.database.integer("select count(*) from webhook_delivery where status = 'delivered'")
        == 50
        && (setup.database.integer("select attempts from webhook_delivery where delivery_id = 1")
          ?? 0) >= 2
    }
    try setup.database.execute(
      """
      update webhook_delivery set status = case when delivery_id % 2 = 0 then 'failed' else 'discarded' end
      where delivery_id <= 10
      """)
    #expect(
      try store.recover("ep_dead", sinceMilliseconds: 0, untilMilliseconds: 4_000_000_000_000) == 10
    )
    try eventually("recovered") { try setup.count("delivered", "ep_dead") == 50 }
    let test = try #require(try store.test("ep_dead"))
    try eventually("tested") {
      try store.deliveries(id: test, limit: 1).first?.status == "delivered"
    }
  }

  @Test(
    "Attempts are recorded with status, error and the answer's first KiB, and Retry-After is honored"
  )
  func attempts() throws {
    let setup = try Setup()
    try setup.endpoint("ep_fail", "/fail")
    try setup.endpoint("ep_later", "/later")
    try setup.raise(1)
    try setup.start()
    try eventually("two attempts") {
      try setup.database.integer("select count(*) from webhook_attempt") == 2
    }
    let rows = try setup.database.rows(
      """
      select t.status_code, t.error, length(t.response), extract(epoch from d.next_attempt_at - now())::int
      from webhook_attempt t join webhook_delivery d using (delivery_id) order by d.endpoint_id
      """)
    #expect(rows[0][0] == "500" && rows[0][1] == "status" && rows[0][2] == "1024")
    #expect((1...6).contains(Int(rows[0][3] ?? "") ?? -1))
    #expect(rows[1][0] == "429")
    #expect((110...120).contains(Int(rows[1][3] ?? "") ?? -1))
  }

  @Test(
    "An expiry notice is sent once, by one of the dispatchers, for the current stage, if it began after registration"
  )
  func expiry() throws {
    let setup = try Setup()
    func license(_ id: String, _ expires: String, created: String, trial: Bool = false) throws {
      try setup.database.execute(
        """
        insert into license (license_id, customer_id, plan, issued_at, expires_at, created_at, trial)
        values ('\(id)', 'cus_test', 'p', now(), now() + interval '\(expires)', now() + interval '\(created)', \(trial))
        """)
    }
    try license("soon14", "10 days", created: "-1 year")
    try license("soon3", "2 days", created: "-1 year")
    try license("soon1", "3 hours", created: "-1 year")
    try license("grace", "-2 days", created: "-1 year")
    try license("trial", "-2 days", created: "-1 month", trial: true)
    try license("over", "-9 days", created: "-1 year")
    try license("ancient", "-100 days", created: "-1 year")
    try license("imported", "-9 days", created: "-1 hour")
    try license("far", "20 days", created: "-1 year")
    for _ in 0..<3 { try setup.start() }
    try eventually("six notices") { try setup.database.integer("select count(*) from alert") == 6 }
    let rows = try setup.database.rows(
      "select license_id, type, data->>'days_before' from alert order by 1")
    #expect(
      rows == [
        ["grace", "license.grace_started", nil], ["over", "license.expired", nil],
        ["soon1", "license.expiring", "1"], ["soon14", "license.expiring", "14"],
        ["soon3", "license.expiring", "3"], ["trial", "license.expired", nil],
      ])
    // A renewed license raises alerts again.
    try setup.database.execute(
      "update license set expires_at = now() + interval '13 days' where license_id = 'grace'")
    try eventually("a seventh") { try setup.database.integer("select count(*) from alert") == 7 }
  }

  @Test("Its metrics are what Prometheus reads, and it is ready only while the database answers")
  func observed() throws {
    let postgres = try PrivatePostgres()
    let database = TestDatabase(url: try postgres.makeDatabase())
    let port = try FreePort.next()
    let process = try ChildProcess(
      ChildProcess.product("webhook-dispatcher"),
      environment: [
        "METER_DATABASE_URL": database.url, "METER_ENCRYPTION_KEY": WebhookClientTests.key,
        "METER_ADMIN_BIND": "127.0.0.1:\(port)",
      ])
    defer { if process.isRunning { process.killNow() } }
    try eventually("ready") { HTTPGet.get(port: port, "/health/ready")?.status == 200 }
    let text = try #require(HTTPGet.get(port: port, "/metrics")?.body)
    #expect(text.contains("meter_webhook_attempts_total{outcome=\"delivered\"} 0"))
    #expect(text.contains("# TYPE meter_webhook_wait_seconds histogram"))
    try postgres.stop(mode: "immediate")
    try eventually("not ready") { HTTPGet.get(port: port, "/health/ready")?.status == 503 }
    let body = HTTPGet.get(port: port, "/health/ready")?.body ?? ""
    #expect(body.contains("database") && !body.contains(WebhookClientTests.key))
    try postgres.start()
    try eventually("ready again") { HTTPGet.get(port: port, "/health/ready")?.status == 200 }
    process.signal(SIGTERM)
    #expect(process.wait() == 0)
    #expect(!process.output.contains(WebhookClientTests.key))
  }
}
