import Foundation
import MeteringTestKit
import PostgresStore
import Testing
import WebhookDelivery

/// What strangers, crashes and wrong keys do to deliveries, with `webhook-dispatcher` as a process.
@Suite(.serialized) struct DeliveryFaultTests {
  private typealias Setup = DispatcherTests.Setup

  private static let otherKey = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

  private func meterctl(_ setup: DispatcherTests.Setup, _ key: String, _ arguments: String...)
    throws
    -> (status: Int32, output: String)
  {
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), arguments,
      environment: [
        "METER_DATABASE_URL": setup.database.url, "METER_ENCRYPTION_KEY": key,
        "METER_WEBHOOK_ALLOW_HTTP": "true", "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
      ])
    let status = process.wait()
    try eventually("all of the output") { process.outputEnded }
    return (status, process.output)
  }

  @Test("No answer of an endpoint ends the dispatcher; healthy endpoints get their deliveries")
  func hostileAnswers() throws {
    let setup = try Setup()
    // A customer may have fewer endpoints than that. The vendor's get the same alerts.
    for n in HostileAnswers.all.indices {
      try setup.endpoint("ep_h\(n)", "/hostile/\(n)", customer: n < 40 ? "cus_test" : nil)
    }
    try setup.endpoint("ep_good", "/good")
    let process = try setup.start()
    try setup.raise(3)
    try eventually("the good one has all; \(process.output)") {
      try setup.count("delivered", "ep_good") == 3
    }
    try eventually("each hostile one was tried", within: 60) {
      try setup.database.integer(
        """
        select count(*) from webhook_endpoint e where endpoint_id like 'ep_h%' and not exists (
          select from webhook_attempt join webhook_delivery using (delivery_id)
          where endpoint_id = e.endpoint_id)
        """) == 0
    }
    #expect(process.isRunning)
    process.signal(SIGTERM)
    #expect(process.wait() == 0)
  }

  @Test("A lease that ends without a report is a failed attempt; the tenth is the last")
  func lostLeases() throws {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/a")
    try setup.raise(1)
    let store = WebhookStore(try setup.database.connection())
    func claim() throws -> WebhookStore.Claim? {
      // The lease ends, and so does any wait after it.
      try setup.database.execute(
        "update webhook_delivery set next_attempt_at = now() where status = 'pending'")
      return try store.claim(most: 10, perEndpoint: 10, rooms: [], leaseSeconds: 60).first
    }
    #expect(try claim()?.retryStep == 0)
    // After the first loss, another attempt follows right away.
    #expect(try claim()?.retryStep == 1)
    #expect(try setup.database.integer("select attempts from webhook_delivery") == 1)
    // From the second loss on, the schedule applies.
    for step in 2...9 {
      #expect(try claim() == nil, "\(step)")
      let row = try setup.database.rows(
        """
        select attempts, retry_step, lease, extract(epoch from next_attempt_at - now())::float8
        from webhook_delivery
        """)[0]
      #expect(row[0] == "\(step)" && row[1] == "\(step)" && row[2] == nil)
      let expected = Double(RetrySchedule.delaysMilliseconds[step - 2]) / 1_000
      let wait = try #require(row[3].flatMap(Double.init))
      #expect((expected * 0.79...expected * 1.21).contains(wait), "\(step): \(wait)")
      #expect(try claim()?.retryStep == step)
    }
    #expect(try claim() == nil)
    #expect(try setup.count("failed", "ep_a") == 1)
    let attempts = try setup.database.rows("select attempt, error from webhook_attempt order by 1")
    #expect(attempts.map { $0[0] } == (1...10).map(String.init))
    #expect(attempts.allSatisfy { $0[1]?.hasPrefix("lost: ") == true })
  }

  @Test(
    "A delivery that was claimed and not begun is given back without an attempt, due after a wait")
  func releases() throws {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/a")
    try setup.raise(2)
    let store = WebhookStore(try setup.database.connection())
    let claims = try store.claim(most: 10, perEndpoint: 10, rooms: [], leaseSeconds: 60)
    try store.release([
      .init(deliveryID: claims[0].deliveryID, lease: claims[0].lease),
      .init(deliveryID: claims[1].deliveryID, lease: claims[1].lease, afterMilliseconds: 60_000),
    ])
    let again = try store.claim(most: 10, perEndpoint: 10, rooms: [], leaseSeconds: 60)
    #expect(again.map(\.deliveryID) == [claims[0].deliveryID] && again[0].retryStep == 0)
    #expect(try setup.database.integer("select sum(attempts) from webhook_delivery") == 0)
  }

  @Test("A 429 with Retry-After pauses the endpoint's other deliveries too; none is blamed")
  func pause() throws {
    let setup = try Setup()
    try setup.endpoint("ep_wait", "/wait")
    try setup.endpoint("ep_good", "/good")
    try setup.raise(30)
    try setup.start()
    try eventually("the others flow") { try setup.count("delivered", "ep_good") == 30 }
    try eventually("paused") {
      try setup.database.integer(
        """
        select count(*) from webhook_endpoint
        where endpoint_id = 'ep_wait' and open_until > now() + interval '50 minutes'
        """) == 1
    }
    try eventually("what waited is given back") {
      try setup.database.integer(
        "select count(*) from webhook_delivery where endpoint_id = 'ep_wait' and lease is not null"
      ) == 0
    }
    #expect(setup.server.received.count { $0.path == "/wait" } <= 4)
    #expect(
      try setup.database.integer(
        "select count(*) from webhook_delivery where endpoint_id = 'ep_wait' and attempts > 0")
        ?? 99
        <= 4)
    setup.server.heal()
    try setup.database.execute(
      """
      update webhook_endpoint set open_until = now() where open_until is not null;
      update webhook_delivery set next_attempt_at = now() where status = 'pending'
      """)
    try eventually("all are delivered") { try setup.count("delivered", "ep_wait") == 30 }
  }

  @Test("An endpoint that hangs once with many requests is probed soon, not minutes later")
  func hangOnce() throws {
    let setup = try Setup()
    try setup.endpoint("ep_sick", "/sick")
    try setup.start(["METER_WEBHOOK_ENDPOINT_CONCURRENCY": "12"])
    try setup.raise(20)
    try eventually("it answers") { try setup.count("delivered", "ep_sick") == 20 }
    setup.server.sicken()
    try setup.raise(40, from: 20)
    try eventually("many requests have hung") {
      try setup.database.integer("select count(*) from webhook_attempt where error like 'timeout%'")
        ?? 0 >= 8
    }
    // Five failures open the breaker for ten seconds. On a slow machine the first probe may have
    // failed too.
    let failures = try setup.database.integer("select consecutive_failures from webhook_endpoint")
    #expect([5, 6].contains(failures))
    setup.server.heal()
    try eventually("it gets all that it missed, without anybody's help", within: 60) {
      try setup.database.integer(
        """
        with due as (update webhook_delivery set next_attempt_at = now()
          where status = 'pending' and next_attempt_at > now() + interval '6 seconds')
        select count(*) from webhook_delivery where status = 'delivered'
        """) == 60
    }
  }

  @Test("Webhooks to the vendor name the customer, webhooks to a customer do not")
  func vendor() throws {
    let setup = try Setup()
    try setup.endpoint("ep_c", "/c")
    try setup.endpoint("ep_v", "/v", customer: nil)
    try setup.start()
    try setup.raise(1)
    try eventually("both have heard of it") { setup.server.received.count == 2 }
    for got in setup.server.received {
      #expect(got.body.contains(#""customer_id":"cus_test""#) == (got.path == "/v"), "\(got)")
    }
  }

  @Test(
    "A wrong encryption key is reported, blames no endpoint, and can be replaced during delivery")
  func wrongKey() throws {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/a")
    try setup.raise(20)
    let port = try FreePort.next()
    let wrong = try setup.start([
      "METER_ENCRYPTION_KEY": Self.otherKey, "METER_ADMIN_BIND": "127.0.0.1:\(port)",
    ])
    try eventually("the key is named") {
      let ready = HTTPGet.get(port: port, "/health/ready")
      return ready?.status == 503
        && ready?.body.contains("METER_ENCRYPTION_KEY opens none of the 1 stored secrets") == true
    }
    #expect(!wrong.output.contains(Self.otherKey))
    #expect(try setup.database.integer("select sum(attempts) from webhook_delivery") == 0)
    #expect(
      try setup.database.integer("select sum(consecutive_failures) from webhook_endpoint") == 0)
    // The dispatcher goes on as soon as its key opens what is stored.
    let both = "\(Self.otherKey),\(WebhookClientTests.key)"
    let check = try meterctl(setup, both, "key", "reseal", "--check")
    #expect(check.status == 1, "\(check.output)")
    let resealed = try meterctl(setup, both, "key", "reseal", "--json")
    #expect(resealed.status == 0 && resealed.output.contains(#""resealed": 1"#), "\(resealed)")
    try eventually("delivered", within: 60) { try setup.count("delivered", "ep_a") == 20 }
    #expect(HTTPGet.get(port: port, "/health/ready")?.status == 200)
    let again = try meterctl(setup, Self.otherKey, "key", "reseal", "--json")
    #expect(again.status == 0 && again.output.contains(#""current": 1"#), "\(again)")
    let old = try meterctl(setup, WebhookClientTests.key, "key", "reseal")
    #expect(old.status == 1 && old.output.contains("ep_a"), "\(old)")
  }

  @Test("A secret that does not open holds up only its own endpoint, and is reported as degraded")
  func oneBadSecret() throws {
    let setup = try Setup()
    try setup.endpoint("ep_good", "/good")
    try setup.endpoint("ep_bad", "/bad")
    try setup.database.execute(
      "update webhook_secret set ciphertext = '\\x0102' where endpoint_id = 'ep_bad'")
    let port = try FreePort.next()
    try setup.start(["METER_ADMIN_BIND": "127.0.0.1:\(port)"])
    try setup.raise(10)
    try eventually("the good one has all") { try setup.count("delivered", "ep_good") == 10 }
    try eventually("degraded") {
      let ready = HTTPGet.get(port: port, "/health/ready")
      return ready?.status == 200 && ready?.body.contains("1 of 2 stored secrets") == true
    }
    #expect(
      try setup.database.integer(
        "select sum(attempts) from webhook_delivery where endpoint_id = 'ep_bad'") == 0)
  }

  @Test("An operator sees a delivery with its attempts, and changes an endpoint's URL and events")
  func operatorsView() throws {
    let setup = try Setup()
    try setup.endpoint("ep_a", "/fail")
    try setup.start()
    try setup.raise(1)
    try eventually("tried") {
      try setup.database.integer("select count(*) from webhook_attempt") == 1
    }
    let shown = try meterctl(setup, WebhookClientTests.key, "deliveries", "show", "1", "--json")
    #expect(shown.status == 0, "\(shown)")
    for part in [
      #""attempt": 1"#, #""status_code": 500"#, #""error": "status""#, #""meter": "api_calls""#,
      #""customer_id": "cus_test""#, "xxxx",
    ] { #expect(shown.output.contains(part), "\(part): \(shown.output)") }
    let text = try meterctl(setup, WebhookClientTests.key, "deliveries", "show", "1")
    #expect(text.output.contains("attempt 1") && text.output.contains("500"), "\(text)")
    #expect(try meterctl(setup, WebhookClientTests.key, "deliveries", "show", "99").status == 3)

    let target = setup.server.url("/x?sig=a%2Fb%3D&q=100%")
    let updated = try meterctl(
      setup, WebhookClientTests.key, "endpoint", "update", "ep_a", "--url", target, "--events",
      "license.limit_exceeded", "--json")
    #expect(updated.status == 0 && updated.output.contains("license.limit_exceeded"), "\(updated)")
    #expect(
      try meterctl(setup, WebhookClientTests.key, "endpoint", "update", "ep_a", "--url", "ftp://x")
        .status
        == 3)
    #expect(try meterctl(setup, WebhookClientTests.key, "endpoint", "update", "ep_a").status == 2)
    try setup.database.execute("update webhook_delivery set next_attempt_at = now()")
    try eventually("sent to the new URL as it was given") {
      setup.server.received.contains { $0.path == "/x?sig=a%2Fb%3D&q=100%" }
    }
  }
}
