import Billing
import Foundation
import MeteringTestKit
import StripeExport
import Testing

/// The export to Stripe, against a server that behaves as Stripe documents.
@Suite(.serialized)
struct StripeExportTests {
  @Test func `Every complete hour is sent once, growth as growth, and a decrease is a credit`()
    throws
  {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    try setup.use("cus_1", hoursAgo: 2, 40)
    try setup.use("cus_1", hoursAgo: 2, 2, license: "b")
    try setup.use("cus_1", hoursAgo: 3, 5)
    // An hour that has not ended is not complete.
    try setup.use("cus_1", hoursAgo: 0, 1_000)

    let dry = try setup.run("export", "stripe", "--dry-run", "--json")
    let planned = try ExportSetup.json(dry.output)
    #expect(dry.status == 0 && planned["planned"] as? Int == 2, "\(dry.output)")
    #expect(planned["planned_quantity"] as? Int == 47)
    #expect((planned["events"] as? [[String: Any]])?.map { $0["value"] as? Int } == [5, 42])
    #expect(try setup.stripe.requests() == 0 && setup.statuses().isEmpty)

    let first = try setup.run("export", "stripe", "--json")
    #expect(first.status == 0, "\(first.output)")
    #expect(try ExportSetup.json(first.output)["sent"] as? Int == 2)
    #expect(try setup.stripe.total() == 47 && setup.statuses() == ["sent", "sent"])
    #expect(try setup.run("reconcile", "stripe").output.contains("equal: 2 hours"))
    let again = try setup.run("export", "stripe", "--json")
    #expect(try again.status == 0 && setup.stripe.requests() == 2)

    try setup.use("cus_1", hoursAgo: 2, 8)
    #expect(try setup.run("export", "stripe").status == 0)
    let events = try setup.stripe.control("state")["events"] as? [[String: Any]] ?? []
    #expect(events.compactMap { $0["value"] as? Int }.sorted() == [5, 8, 42])
    #expect(events.count == Set(events.compactMap { $0["identifier"] as? String }).count)

    try setup.database.execute("delete from usage_pending where quantity = 40")
    let less = try setup.run("export", "stripe")
    #expect(try less.status == 1 && setup.stripe.total() == 55, "\(less.output)")
    #expect(less.output.contains("give a credit"))
    #expect(try setup.statuses() == ["sent", "credit"])
    let audited = try setup.database.rows(
      "select distinct actor_kind from audit_log where action = 'exports.stripe'")
    #expect(audited == [["operator"]])
    // The CSV export is unchanged.
    let csv = try setup.run("export", "--from", "2026-11-01", "--to", "2026-12-01")
    #expect(csv.status == 0 && csv.output.hasPrefix("license_id,customer_id,meter,"))
  }

  @Test func `What Stripe would not take is listed with its reason, and sent when that is mended`()
    throws
  {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    try setup.addCustomer("cus_2", isLinked: false)
    try setup.use("cus_2", hoursAgo: 3, 7)
    try setup.use("cus_1", hoursAgo: 35 * 24 + 1, 1)
    try setup.use("cus_1", hoursAgo: 35 * 24 - 2, 2)
    try setup.use("cus_1", hoursAgo: 4, 1_000_000_000_000_000)
    let found = try setup.run("export", "stripe", "--json")
    let report = try ExportSetup.json(found.output)
    #expect(found.status == 1 && report["sent"] as? Int == 1, "\(found.output)")
    for status in ["unlinked", "too_old", "too_large"] { #expect(report[status] as? Int == 1) }
    #expect(report["unlinked_customers"] as? [String] == ["cus_2"])
    #expect(try setup.stripe.total() == 2)

    let id = try setup.stripe.addCustomer()
    try setup.database.execute(
      "update customer set stripe_customer_id = '\(id)' where customer_id = 'cus_2'")
    let linked = try setup.run("export", "stripe", "--json")
    #expect(try ExportSetup.json(linked.output)["unlinked"] as? Int == 0)
    #expect(try setup.stripe.total() == 9)
  }

  @Test func `Nothing is exported while events are missing`() throws {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    try setup.use("cus_1", hoursAgo: 2, 10)
    try setup.database.execute(
      """
      insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped,
        final, reported_at, log_epoch, judged_at)
      values ('usage-aggregator', 'license.usage.v1', 'p', 10, 0, 0, true, now(), 1, now())
      """)
    let run = try setup.run("export", "stripe")
    #expect(run.status == 3 && run.output.contains("10 events"), "\(run.output)")
    #expect(try setup.statuses().isEmpty && setup.stripe.requests() == 0)
  }

  @Test func `A try that fails is repeated under its identifier, and counts once`() throws {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    for hour in 1...6 { try setup.use("cus_1", hoursAgo: hour, 10) }
    try setup.stripe.control(
      "faults",
      """
      [{"fault":"status","status":429,"headers":{"Retry-After":"0"}},
       {"fault":"status","status":409,"skip":1}, {"fault":"status","status":500,"skip":2},
       {"fault":"after","skip":3}, {"fault":"before","skip":4},
       {"fault":"status","status":400,"headers":{"stripe-should-retry":"true"},"skip":5}]
      """)
    let run = try setup.run("export", "stripe", "--json")
    #expect(run.status == 0, "\(run.output)")
    #expect(try setup.stripe.total() == 60 && setup.stripe.requests() == 12)
    #expect(try setup.run("reconcile", "stripe").status == 0)
  }

  @Test func `An export that is killed at any moment is continued, and every event counts once`()
    throws
  {
    let setup = try ExportSetup()
    for customer in 1...4 { try setup.addCustomer("cus_\(customer)") }
    for customer in 1...4 {
      for hour in 1...25 { try setup.use("cus_\(customer)", hoursAgo: hour, Int64(hour)) }
    }
    try setup.stripe.control("set", #"{"latency":0.01}"#)
    for requests in [1, 30, 60] {
      let process = try setup.start("export", "stripe")
      try setup.stripe.control("wait", #"{"requests":\#(requests)}"#)
      process.killNow()
    }
    // One process is killed while it plans.
    let planning = try setup.start("export", "stripe")
    planning.killNow()
    let end = try setup.run("export", "stripe", "--json")
    #expect(end.status == 0, "\(end.output)")
    #expect(try setup.stripe.total() == 4 * (1...25).reduce(0, +))
    #expect(try Set(setup.statuses()) == ["sent"] && setup.statuses().count == 100)
    #expect(try setup.run("reconcile", "stripe").status == 0)
  }

  @Test func `After a day an event without an answer is settled by Stripe's own sum`() async throws
  {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    try setup.addCustomer("cus_2")
    try setup.use("cus_1", hoursAgo: 2, 10)
    // The event arrives, but no answer comes, however often the request is repeated.
    try setup.stripe.control("faults", #"[{"fault":"after","count":99}]"#)
    let first = try await setup.export()
    #expect(first.pending == 1 && first.sent == 0)
    #expect(try setup.stripe.total() == 10)
    // This one never arrives.
    try setup.use("cus_2", hoursAgo: 2, 5)
    try setup.stripe.control("faults", #"[{"fault":"before","count":99}]"#)
    let second = try await setup.export()
    #expect(second.pending == 2 && second.sent == 0)

    try setup.stripe.control("faults", "[]")
    try setup.letADayPass()
    let third = try await setup.export()
    #expect(third.pending == 0 && third.planned == 1 && third.sent == 1)
    #expect(try setup.stripe.total() == 15 && setup.statuses() == ["sent", "sent"])
    let revisions = try setup.database.rows(
      "select customer_id, revision, state from stripe_export_event order by customer_id, revision")
    #expect(
      revisions == [
        ["cus_1", "1", "accepted"], ["cus_2", "1", "lost"], ["cus_2", "2", "accepted"],
      ])
  }

  @Test
  func `If Stripe's sum fits neither, nothing is sent until a person takes Stripe's number`()
    async throws
  {
    let setup = try ExportSetup()
    let id = try #require(try setup.addCustomer("cus_1"))
    try setup.use("cus_1", hoursAgo: 2, 10)
    try setup.stripe.control("faults", #"[{"fault":"after","count":99}]"#)
    _ = try await setup.export()
    try setup.stripe.control("faults", "[]")
    // Another program sends to the same customer and meter.
    let hour = try setup.database.integer(
      "select extract(epoch from hour)::bigint from stripe_export")
    try setup.stripe.api(
      "POST", "/v1/billing/meter_events",
      "event_name=calls&timestamp=\(hour ?? 0)&payload[stripe_customer_id]=\(id)&payload[value]=3")
    try setup.letADayPass()
    let unclear = try await setup.export()
    #expect(unclear.count(.unsettled) == 1 && unclear.planned == 0)
    let found = try setup.run("reconcile", "stripe", "--json")
    let differences = try ExportSetup.json(found.output)["differences"] as? [[String: Any]]
    #expect(found.status == 1 && differences?.first?["stripe_quantity"] as? Int == 13)
    try setup.letADayPass()
    #expect(try setup.run("reconcile", "stripe", "--repair").status == 0)
    let repaired = try await setup.export()
    #expect(repaired.count(.credit) == 1 && repaired.planned == 0)
  }

  @Test func `Events that Stripe drops after its answer are found by reconcile and sent again`()
    async throws
  {
    let setup = try ExportSetup()
    let gone = try #require(try setup.addCustomer("cus_1"))
    try setup.addCustomer("cus_2")
    for customer in ["cus_1", "cus_2"] { try setup.use(customer, hoursAgo: 2, 10) }
    try setup.stripe.api("DELETE", "/v1/customers/\(gone)")
    #expect(try await setup.export().sent == 2)
    let errors = try setup.stripe.control("state")["errors"] as? [[String: Any]]
    #expect(errors?.map { $0["code"] as? String } == ["meter_event_customer_not_found"])

    // For a customer that Stripe does not know there are no sums, and that is reported as an error.
    let without = try setup.run("reconcile", "stripe")
    #expect(without.status == 1 && without.output.contains("sent 10, Stripe has 0"), "\(without)")
    let early = try setup.run("reconcile", "stripe", "--repair")
    #expect(early.status == 1, "Stripe may still be adding: \(early.output)")
    let id = try setup.stripe.addCustomer()
    try setup.database.execute(
      "update customer set stripe_customer_id = '\(id)' where customer_id = 'cus_1'")
    try setup.letADayPass()
    #expect(try setup.run("reconcile", "stripe", "--repair").status == 0)
    #expect(try await setup.export().sent == 1)
    #expect(try setup.stripe.total() == 20)
    #expect(try setup.run("reconcile", "stripe").status == 0)
  }

  @Test func `In mode replace the whole hour is sent again, to meters that take it so`() throws {
    let setup = try ExportSetup(window: "hour")
    try setup.addCustomer("cus_1")
    try setup.use("cus_1", hoursAgo: 2, 10)
    let wrong = try setup.run("export", "stripe", "--mode", "sum")
    #expect(wrong.status == 3 && wrong.output.contains("mode replace"), "\(wrong.output)")
    #expect(try setup.run("export", "stripe", "--mode", "replace").status == 0)
    try setup.use("cus_1", hoursAgo: 2, 5)
    #expect(try setup.run("export", "stripe", "--mode", "replace").status == 0)
    let events = try setup.stripe.control("state")["events"] as? [[String: Any]] ?? []
    #expect(events.compactMap { $0["value"] as? Int } == [10, 15])
    #expect(try setup.run("reconcile", "stripe").status == 0)
    // Two of our customers with the same Stripe customer would replace each other's hours.
    try setup.addCustomer("cus_2", isLinked: false)
    try setup.database.execute(
      """
      update customer set stripe_customer_id = (
        select stripe_customer_id from customer where customer_id = 'cus_1')
      where customer_id = 'cus_2'
      """)
    try setup.use("cus_2", hoursAgo: 2, 1)
    let shared = try setup.run("export", "stripe", "--mode", "replace", "--json")
    #expect(try ExportSetup.json(shared.output)["shared"] as? Int == 1, "\(shared.output)")
  }

  @Test func `A key that Stripe refuses ends the export, and is shown to no one`() throws {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    for hour in 1...30 { try setup.use("cus_1", hoursAgo: hour, 1) }
    try setup.stripe.control(
      "faults",
      #"[{"fault":"status","status":401,"message":"Invalid API Key provided: (key)","count":99}]"#)
    let refused = try setup.run("export", "stripe")
    #expect(refused.status == 3 && refused.output.contains("Stripe answered 401"))
    #expect(!refused.output.contains(FakeStripe.key), "\(refused.output)")
    #expect(try setup.stripe.requests() <= 2)
    let stored = try setup.database.rows(
      "select detail from stripe_export where detail is not null")
    #expect(stored.allSatisfy { $0[0]?.contains(FakeStripe.key) == false })
    try setup.stripe.control("faults", "[]")
    #expect(try setup.run("export", "stripe").status == 0)
    #expect(try setup.stripe.total() == 30)
    for (name, value) in [
      ("METER_STRIPE_METERS", "api_calls"), ("METER_STRIPE_API_KEY", "sk test"),
      ("METER_STRIPE_API_BASE", "ftp://stripe"),
    ] {
      let wrong = try setup.run("export", "stripe", environment: [name: value])
      #expect(wrong.status == 3 && wrong.output.contains(name), "\(wrong.output)")
      #expect(!wrong.output.contains("sk test"))
    }
  }

  @Test func `While Stripe is away nothing is lost, and the export ends in time`() async throws {
    let setup = try ExportSetup()
    try setup.addCustomer("cus_1")
    for hour in 1...40 { try setup.use("cus_1", hoursAgo: hour, 1) }
    try setup.stripe.control("faults", #"[{"fault":"status","status":503,"count":1000}]"#)
    let away = try await setup.export()
    #expect(away.problem?.contains("503") == true && away.pending == 40)
    // After eight failures in a row, the others are not tried.
    #expect(try setup.stripe.requests() <= 8 * StripeBackoff.mostTries)
    try setup.stripe.control("faults", "[]")
    #expect(try await setup.export().sent == 40)
    #expect(try setup.stripe.total() == 40)
  }

  @Test func `Over TLS a server proves its name by its certificate, or nothing is sent to it`()
    async throws
  {
    let own = try OwnCertificate()
    let setup = try ExportSetup(
      arguments: ["--certificate", own.certificate, "--key", own.key])
    try setup.addCustomer("cus_1")
    for hour in 1...3 { try setup.use("cus_1", hoursAgo: hour, 10) }
    let refusing: [(String, String?)] = [("localhost", nil), ("127.0.0.1", own.certificate)]
    for (host, trusted) in refusing {
      let client = try setup.secureClient(host: host, trusting: trusted)
      await #expect(throws: (any Error).self) { try await setup.export(client: client) }
      #expect(try setup.stripe.requests() == 0)
    }
    let client = try setup.secureClient(host: "localhost", trusting: own.certificate)
    let sent = try await setup.export(client: client)
    #expect(sent.sent == 3 && sent.problem == nil, "\(sent)")
    #expect(try setup.stripe.total() == 30)
  }

  @Test(
    "Stripe's own client finds nothing in the server that stands for Stripe",
    .enabled(if: OfficialClient.isInstalled))
  func officialClient() throws {
    let stripe = try FakeStripe()
    let check = try ChildProcess(
      OfficialClient.python, [FakeStripe.folder + "/check_fake_stripe.py", String(stripe.port)])
    #expect(check.wait() == 0, "\(check.output)")
  }
}

/// PyPI's `stripe`, which the test command installs. Where it is missing, the tests that need it
/// are skipped.
private enum OfficialClient {
  static let python = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? "python3"
  static let isInstalled: Bool = {
    let look = try? ChildProcess("/usr/bin/env", [python, "-c", "import stripe"])
    // It is nil if there is no Python at all.
    return look?.wait() == 0
  }()
}
