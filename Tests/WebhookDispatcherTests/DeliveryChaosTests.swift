import Foundation
import MeteringTestKit
import PostgresStore
import Testing
import WebhookDelivery

/// From events to endpoints, while everything in between is killed. `METER_TEST_SEED` repeats a
/// run's events and faults, but not its timing.
@Suite(.serialized) struct DeliveryChaosTests {
  private enum Fault: CaseIterable { case killAggregator, killDispatcher, crashDatabase }

  private static let licenses = 60
  private static let bad = ["/fail", "/hang", "/close", "/half", "/garbage", "/trickle"]

  private let postgres: PrivatePostgres
  private let log: UsageLog
  private let database: TestDatabase
  private let server: HookServer

  init() throws {
    postgres = try PrivatePostgres()
    log = try UsageLog(partitions: 4)
    database = TestDatabase(url: try postgres.makeDatabase())
    server = try HookServer()
  }

  @Test("Every healthy endpoint hears of every threshold, each under one webhook-id")
  func chaos() throws {
    let seed = SeededRandom.testSeed()
    print("delivery chaos: METER_TEST_SEED=\(seed)")
    var random = SeededRandom(seed: seed)
    defer { server.end() }
    try prepare()
    var aggregators = [try aggregator(), try aggregator()]
    var dispatchers = [try dispatcher(), try dispatcher()]
    defer { for process in dispatchers where process.isRunning { process.killNow() } }

    // Each license makes twelve calls, and its limit is ten.
    var calls = (0..<Self.licenses * 12).map { $0 % Self.licenses }
    calls.shuffle(using: &random)
    var faults = Fault.allCases + Fault.allCases + [.killDispatcher, .killDispatcher]
    faults.shuffle(using: &random)
    let step = calls.count / faults.count
    for (n, license) in calls.enumerated() {
      let event = UsageEventText(id: "e\(n)", subject: "lic_\(license)")
      for _ in 0...Int.random(in: 0...1, using: &random) { try log.send(event) }
      if n % 10 == 0 { Thread.sleep(forTimeInterval: 0.1) }
      guard n % step == step - 1, let fault = faults.popLast() else { continue }
      let victim = Int.random(in: 0...1, using: &random)
      switch fault {
      case .killAggregator:
        aggregators[victim].process.killNow()
        aggregators[victim] = try aggregator()
      case .killDispatcher:
        dispatchers[victim].killNow()
        dispatchers[victim] = try dispatcher()
      case .crashDatabase:
        try postgres.stop(mode: "immediate")
        try postgres.start()
      }
    }
    try log.waitUntilCounted(database, within: 90)
    try expectAlerts()
    try expectDelivered()
    for one in aggregators { one.process.signal(SIGTERM) }
    for one in dispatchers { one.signal(SIGTERM) }
    for one in dispatchers { #expect(one.wait() == 0) }
  }

  private func prepare() throws {
    let box = try SecretBox(base64Key: WebhookClientTests.key)
    let secret = try SigningSecret(scheme: .v1, bytes: Array(0..<32))
    for n in 0..<Self.licenses { try database.addLicense("lic_\(n)") }
    try database.execute(
      "insert into license_limit select license_id, 'api_calls', 10 from license")
    func add(_ id: String, _ path: String, customer: String?) throws {
      try EndpointStore(database.connection()).add(
        id: id, customer: customer, url: server.url(path), events: [], signing: "v1",
        sealedSecret: box.seal(secret, endpoint: id, nonce: Array(0..<12)))
    }
    try add("ep_customer", "/customer", customer: "cus_test")
    try add("ep_vendor", "/vendor", customer: nil)
    for (n, path) in Self.bad.enumerated() { try add("ep_bad_\(n)", path, customer: "cus_test") }
  }

  private func aggregator() throws -> ConsumerProcess {
    try ConsumerProcess(
      brokers: log.brokers, databaseURL: database.url, kafka: ConsumerProcess.briefSessions,
      environment: ["METER_DATABASE_PATIENCE": "3s"])
  }

  private func dispatcher() throws -> ChildProcess {
    try ChildProcess(
      ChildProcess.product("webhook-dispatcher"),
      environment: [
        "METER_DATABASE_URL": database.url, "METER_ENCRYPTION_KEY": WebhookClientTests.key,
        "METER_ADMIN_BIND": "127.0.0.1:\(try FreePort.next())", "METER_WEBHOOK_ALLOW_HTTP": "true",
        "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", "METER_WEBHOOK_TIMEOUT": "2s",
        "METER_WEBHOOK_LEASE": "4s",
      ])
  }

  /// Each license has two thresholds, and each is reported once.
  private func expectAlerts() throws {
    try eventually("merged", within: 30) {
      try database.integer("select count(*) from usage_pending") == 0
    }
    #expect(
      try database.rows(
        """
        select data->>'threshold_percent', count(*), count(distinct license_id) from alert
        where type like 'license.limit%' group by 1 order by 1
        """) == [["100", "60", "60"], ["80", "60", "60"]])
    #expect(
      try database.integer(
        "select count(*) from usage_by_period where quantity = 12 and event_count = 12")
        == Int64(Self.licenses))
  }

  private func expectDelivered() throws {
    for (endpoint, path) in [("ep_customer", "/customer"), ("ep_vendor", "/vendor")] {
      try eventually("\(endpoint) has heard of all", within: 60) {
        try database.integer(
          "select count(*) from webhook_delivery where endpoint_id = '\(endpoint)' and status <> 'delivered'"
        ) == 0
      }
      let expected = Set(
        try database.rows(
          "select webhook_id from webhook_delivery where endpoint_id = '\(endpoint)'"
        ).map { $0[0]! })
      let heard = server.received.filter { $0.path == path }
      #expect(expected.count >= Self.licenses * 2)
      #expect(Set(heard.map(\.id)) == expected)
      // A webhook that came twice has the same id and the same body.
      let bodies = Dictionary(grouping: heard, by: \.body)
      #expect(bodies.count == expected.count)
      print("delivery chaos: \(path) heard \(heard.count) times of \(expected.count) alerts")
    }
  }
}
