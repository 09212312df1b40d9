import Foundation
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// The detector as a process, with a log and a database as in production.
  @Suite struct DetectorTests {
    private static let brief = ["METER_CHECKPOINT_INTERVAL": "200ms"]

    private func alerts(
      _ pipeline: Pipeline, _ reason: String
    ) throws -> [[String?]] {
      try pipeline.database.rows(
        """
        select license_id, data->>'requested_domain', data->>'bound_domain', data->>'count' from alert
        where type = 'license.suspicious_activity' and data->>'reason' = $1 order by 1, 2
        """, [.text(reason)])
    }

    @Test("A foreign domain is reported immediately and a pair once, whatever dies in between")
    func domains() throws {
      let pipeline = try Pipeline(partitions: 4)
      try pipeline.database.addLicense(
        "lic_1", domains: ["legitimate-app.com", "*.shop.example.org"])
      try pipeline.database.execute(
        """
        insert into webhook_endpoint (endpoint_id, customer_id, url) values ('ep_1', 'cus_test', 'https://example.com/')
        """)
      var detector = try pipeline.startDetector(environment: Self.brief)
      try detector.waitUntilReady()
      var log = ValidationLog(pipeline.log)
      for domain in ["localhost", "app.localhost", "site.test", "127.0.0.1:8080", "[::1]"] {
        try log.send("lic_1", "domain_mismatch", domain: domain)
      }
      try log.send("lic_1", "valid", domain: "legitimate-app.com")
      try log.send("lic_1", "domain_mismatch", domain: "Pirated-Site.com.")
      try log.send("lic_1", "domain_mismatch", domain: "app.shop.example.net")
      try log.send("lic_1", "domain_mismatch", domain: "x.example.org")
      let expected = [
        ["lic_1", "app.shop.example.net", "legitimate-app.com", "1"],
        ["lic_1", "pirated-site.com", "legitimate-app.com", "1"],
        ["lic_1", "x.example.org", "*.shop.example.org", "1"],
      ]
      try eventually("three alerts") { try alerts(pipeline, "domain_mismatch").count >= 3 }
      #expect(try alerts(pipeline, "domain_mismatch") == expected)
      // Each alert has its delivery, its place in the log, and the data that caused it.
      #expect(try pipeline.database.integer("select count(*) from webhook_delivery") == 3)
      #expect(
        try pipeline.database.integer(
          """
          select count(*) from alert where evidence ?& '{topic,log_epoch,partition,first_offset,last_offset}'
            and data ?& '{bound_domains,first_seen,detector,license_id}'
          """) == 3)
      for _ in 0..<3 {
        detector.process.signal(SIGKILL)
        _ = detector.process.wait()
        try log.send("lic_1", "domain_mismatch", domain: "pirated-site.com")
        detector = try pipeline.startDetector(environment: Self.brief)
        try detector.waitUntilReady()
        try log.send("lic_1", "domain_mismatch", domain: "pirated-site.com")
        try log.waitUntilRead(pipeline)
      }
      #expect(try alerts(pipeline, "domain_mismatch").count == 3)
      try pipeline.expectStops(detector)
    }

    @Test(
      "A key on many domains and a canceled key are reported, and garbage becomes a dead letter of its own topic"
    )
    func spreadAndCanceled() throws {
      let pipeline = try Pipeline(partitions: 2)
      // Unbound names below the license's own domain do not count as foreign ones.
      try pipeline.database.addLicense("lic_1", domains: ["example.com"])
      let detector = try pipeline.startDetector(environment: Self.brief)
      try detector.waitUntilReady()
      var log = ValidationLog(pipeline.log)
      try log.send("lic_1", "domain_mismatch", domain: "www.example.com")
      for n in 0..<5 { try log.send("lic_1", "domain_mismatch", domain: "www.forum\(n).com") }
      for _ in 0..<20 { try log.send("lic_2", "canceled", domain: "example.com") }
      for _ in 0..<20 { try log.send("lic_3", "suspended", domain: "example.com") }
      try log.send("lic_4", "not_found", domain: "example.com")
      try log.sendRaw("lic_1", "{}")
      try log.send("lic_1", "fine", domain: "example.com")
      try log.waitUntilRead(pipeline)
      #expect(try alerts(pipeline, "domain_spread").isEmpty)
      #expect(try alerts(pipeline, "canceled_use").map { $0[0] } == ["lic_2", "lic_3"])
      try log.send("lic_1", "domain_mismatch", domain: "forum5.com")
      try eventually("a spread") {
        try pipeline.database.rows(
          "select data->>'distinct_domains', data->>'window_seconds' from alert where data->>'reason' = 'domain_spread'"
        ) == [["6", "3600"]]
      }
      #expect(
        try pipeline.database.rows(
          "select topic, reason from dead_letter order by log_offset") == [
            [UsageLog.validationTopic, "not_cloudevent"], [UsageLog.validationTopic, "bad_data"],
          ])
      try pipeline.expectStops(detector)
    }

    @Test("A burst is reported once, and its events count once, whichever process is killed")
    func burst() throws {
      let pipeline = try Pipeline(partitions: 4)
      try pipeline.database.addLicense("lic_burst")
      try pipeline.database.addLicense("lic_calm")
      var members = [try pipeline.startDetector(environment: Self.brief)]
      members.append(try pipeline.startDetector(environment: Self.brief))
      for member in members { try member.waitUntilReady() }
      var random = SeededRandom(seed: 21)
      let end = UsageEventText.now / 60_000
      var sent = 0
      for minute in 0..<360 {
        for license in ["lic_burst", "lic_calm"] {
          var calls = 15 + Int(random.next() % 11)
          if license == "lic_burst", (340..<345).contains(minute) { calls *= 10 }
          for _ in 0..<calls {
            sent += 1
            var event = UsageEventText(id: "e\(sent)", subject: license)
            event.milliseconds =
              (end - 360 + Int64(minute)) * 60_000 + Int64(random.next() % 60_000)
            // The calm license's events are all sent ten times, which counts once.
            for _ in 0..<(license == "lic_calm" && minute > 300 ? 10 : 1) {
              try pipeline.log.send(event)
            }
          }
        }
        if minute % 60 == 30 {
          // Half of the members are killed while they read, and the other half goes on.
          let killed = members.removeFirst()
          killed.process.signal(SIGKILL)
          members.append(try pipeline.startDetector(environment: Self.brief))
        }
      }
      try pipeline.log.waitUntilCounted(
        pipeline.database, by: "anomaly-detector", within: 90)
      let found = try pipeline.database.rows(
        """
        select license_id, (data->>'expected_per_minute')::float between 10 and 40,
          (data->>'rate_per_minute')::float between 100 and 400, (data->>'score')::float between 0.5 and 1,
          extract(epoch from occurred_at)::bigint / 60
        from alert where data->>'reason' = 'burst'
        """)
      #expect(found.map { Array($0.prefix(4)) } == [["lic_burst", "t", "t", "t"]], "\(found)")
      if let minute = found.first?.last.flatMap({ Int64($0 ?? "") }) {
        #expect((340...342).contains(minute - (end - 360)))
      }
      // The detector's group has its own ledger. Dead letters of usage belong to the aggregator.
      #expect(try pipeline.database.integer("select count(*) from dead_letter") == 0)
      for member in members { try pipeline.expectStops(member) }
    }

    @Test(
      "After a fault at any step of a checkpoint every pair is reported once, and none is forgotten",
      arguments: [FlushFaultTests.Fault.cut, .kill])
    func faultAtEachStep(_ fault: FlushFaultTests.Fault) throws {
      let pipeline = try Pipeline(partitions: 2)
      try pipeline.database.addLicense("lic_1", domains: ["example.com"])
      let proxy = try PostgresProxy(to: PostgresAddress.port(of: pipeline.database.url))
      defer { proxy.shutDown() }
      let url = proxy.url(like: pipeline.database.url)
      var detector = try pipeline.startDetector(by: url, environment: Self.brief)
      try detector.waitUntilReady()
      var log = ValidationLog(pipeline.log)
      var licenses = 0
      func send() throws {
        // Each round uses a new license, and repeats the domains of an earlier one. Those were
        // reported once and are only counted now.
        licenses += 1
        for n in 0..<3 {
          try log.send("lic_\(licenses)", "domain_mismatch", domain: "d\(n).com")
          try log.send("lic_\(max(1, licenses - 3))", "domain_mismatch", domain: "d\(n).com")
        }
      }
      try send()
      try log.waitUntilRead(pipeline)
      for step in PostgresProxy.Step.allCases {
        let process = detector.process
        proxy.arm(step, fault == .cut ? .cut : .run { process.killNow() })
        for _ in 0..<10 where !proxy.waitUntilFired(seconds: 0) {
          try send()
          _ = proxy.waitUntilFired(seconds: 1)
        }
        #expect(proxy.waitUntilFired(), "the fault did not happen: \(step)")
        if fault == .kill {
          detector = try pipeline.startDetector(by: url, environment: Self.brief)
        }
        try send()
        try log.waitUntilRead(pipeline)
      }
      #expect(
        try pipeline.database.integer(
          "select count(distinct license_id || (data->>'requested_domain')) from alert")
          == Int64(
            3 * licenses))
      #expect(try pipeline.database.integer("select count(*) from alert") == Int64(3 * licenses))
      // There is one state per partition and topic, as of its offset.
      #expect(
        try pipeline.database.integer(
          """
          select count(*) from detector_state s join consumer_offset o
            using (consumer_group, topic, partition, log_epoch, next_offset)
          """) == pipeline.database.integer("select count(*) from detector_state"))
      try pipeline.expectStops(detector)
    }

    @Test(
      "Noise about four hundred licenses raises only a customer's share of alerts, hides no pirate, and puts no words into them"
    )
    func noise() throws {
      let pipeline = try Pipeline(partitions: 1)
      for n in 0..<400 { try pipeline.database.addLicense("lic_\(n)", domains: ["example.com"]) }
      let detector = try pipeline.startDetector()
      try detector.waitUntilReady()
      var log = ValidationLog(pipeline.log)
      var random = SeededRandom(seed: 9)
      let hour: Int64 = 3_600_000
      let start = (UsageEventText.now / hour - 3) * hour + 60_000
      for n in 0..<4_000 {
        try log.send(
          "lic_\(n % 400)", "domain_mismatch", domain: "r\(random.next()).example.net",
          at: start + Int64(n))
      }
      for n in 0..<25 {
        try log.send(
          "lic_7", "domain_mismatch", domain: "n\(random.next()).com", at: start + 5_000 + Int64(n))
        try log.send(
          "lic_7", "domain_mismatch", domain: "Send money \(n) to evil.example!",
          at: start + 5_000 + Int64(n))
      }
      for n in 0..<300 {
        try log.send(
          "lic_7", "domain_mismatch", domain: "pirate.com", at: start + 6_000 + Int64(n))
      }
      // A record with the current time ends the hour.
      try log.send("other", "valid", domain: "example.com")
      try log.waitUntilRead(pipeline)
      let digest = "data->>'reason' = 'domain_mismatch' and data ? 'most_frequent'"
      try eventually("a digest") {
        try pipeline.database.rows(
          """
          select data->>'requested_domain', data->'most_frequent'->0->>'domain',
            (data->'most_frequent'->0->>'count')::int between 290 and 300
          from alert where license_id = 'lic_7' and \(digest)
          """) == [["pirate.com", "pirate.com", "t"]]
      }
      let told = try pipeline.database.integer("select count(*) from alert where not (\(digest))")!
      #expect((50...100).contains(told))
      // Alerts after the first half belong to licenses that had none before, and say that more are
      // left out.
      #expect(
        try pipeline.database.integer(
          "select count(*) from alert where data ? 'further_alerts_suppressed_until'") == told - 49)
      #expect(
        try pipeline.database.integer(
          "select count(*) from alert where data::text || dedupe_key ilike '%money%'") == 0)
      #expect(
        try pipeline.database.integer(
          "select count(*) from alert where data::text like '%(not a host name)%'")! >= 1)
      #expect(detector.metric("meter_findings_suppressed_total{cause=\"customer\"}")! > 3_000)
      try pipeline.expectStops(detector)
    }

    @Test("Made-up licenses and domains by the thousand cost little, and do not hide the real one")
    func flood() throws {
      let pipeline = try Pipeline(partitions: 2)
      try pipeline.database.addLicense("lic_real", domains: ["example.com"])
      let detector = try pipeline.startDetector()
      try detector.waitUntilReady()
      var log = ValidationLog(pipeline.log)
      var random = SeededRandom(seed: 3)
      for n in 0..<20_000 {
        try log.send("lic_\(random.next())", "domain_mismatch", domain: "d\(random.next()).com")
        var event = UsageEventText(id: "e\(n)", subject: "made_up_\(random.next())")
        event.quantity = 1_000_000
        try pipeline.log.send(event)
        if n == 15_000 { try log.send("lic_real", "domain_mismatch", domain: "pirate.com") }
      }
      try log.waitUntilRead(pipeline)
      #expect(try alerts(pipeline, "domain_mismatch").filter { $0[0] == "lic_real" }.count == 1)
      // Unregistered licenses raise alerts, but only a bounded number of them.
      #expect(try pipeline.database.integer("select count(*) from alert")! <= 501)
      // For validations, the bound is that of two partitions. The table of calls has room for far
      // more licenses than were sent.
      #expect(detector.metric("meter_detector_licenses")! <= 2 * 2_048 + 20_000)
      try pipeline.expectStops(detector)
    }
  }
}

extension Pipeline {
  /// Starts another member of the detector's group.
  func startDetector(
    by url: String? = nil, environment: [String: String] = [:]
  ) throws -> ConsumerProcess {
    try start("anomaly-detector", by: url, environment: environment)
  }
}

/// Writes validation events.
private struct ValidationLog {
  let log: UsageLog
  private var next = 0

  init(_ log: UsageLog) { self.log = log }

  /// - Parameter milliseconds: the record's and the event's time; nil for now.
  mutating func send(
    _ license: String, _ code: String, domain: String, at milliseconds: Int64? = nil
  ) throws {
    next += 1
    let time = UsageEventText.time(milliseconds: milliseconds ?? UsageEventText.now)
    try sendRaw(
      license,
      """
      {"specversion":"1.0","id":"v\(next)","source":"/test","type":"license.validation.performed",\
      "subject":"\(license)","time":"\(time)","data":{"code":"\(code)","valid":\(code == "valid"),"domain":"\(domain)"}}
      """, at: milliseconds)
  }

  func sendRaw(_ license: String, _ json: String, at milliseconds: Int64? = nil) throws {
    try log.send(
      key: license, value: Array(json.utf8), timestamp: milliseconds,
      topic: UsageLog.validationTopic)
  }

  func waitUntilRead(_ pipeline: Pipeline) throws {
    try log.waitUntilCounted(
      pipeline.database, by: "anomaly-detector", topic: UsageLog.validationTopic)
  }
}
