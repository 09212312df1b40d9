import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// All faults together. `METER_TEST_SEED` repeats a run's events and faults, but not its timing.
  @Suite struct ChaosTests {
    /// Makes events on its own thread until it is stopped, and keeps the truth.
    private final class Producer: @unchecked Sendable {
      // `isStopped` is used with the lock held. Everything else belongs to the thread until `stop`
      // has returned.
      private let lock = NSLock()
      private var isStopped = false
      private let done = DispatchSemaphore(value: 0)
      private let log: UsageLog
      private var random: SeededRandom

      private(set) var truth = UsageTruth()
      /// The reason with which each garbage value must be refused. Tombstones have no value, so
      /// they are not in it.
      private(set) var reasons: [[UInt8]: String] = [:]
      private(set) var records = 0
      private(set) var failure: String?
      private var sequences: [String: Int64] = [:]
      private let names = ["eu-1", "eu-2", "us-1"]
      /// Records that are sent again later, oldest first.
      private var again: [(key: String?, value: [UInt8]?)] = []
      private var recent: [UsageEventText] = []

      init(_ log: UsageLog, seed: UInt64) {
        self.log = log
        random = SeededRandom(seed: seed)
      }

      func start(eventsPerSecond: Int) {
        Thread.detachNewThread { [self] in
          do { try run(eventsPerSecond) } catch { failure = "\(error)" }
          done.signal()
        }
      }

      /// At the end, the thread sends everything that is still to be resent, and the final reports.
      func stop() {
        lock.lock()
        isStopped = true
        lock.unlock()
        done.wait()
      }

      private var goesOn: Bool {
        lock.lock()
        defer { lock.unlock() }
        return !isStopped
      }

      private func run(_ perSecond: Int) throws {
        let started = DispatchTime.now().uptimeNanoseconds
        var n = 0
        while goesOn {
          let elapsed = Int((DispatchTime.now().uptimeNanoseconds - started) / 1_000_000)
          let due = elapsed * perSecond / 1_000
          while n < due {
            try one(n)
            n += 1
            if n % (perSecond * 4) == 0 { try report(isFinal: false) }
          }
          Thread.sleep(forTimeInterval: 0.005)
        }
        for record in again { try put(record.key, record.value) }
        try report(isFinal: true)
      }

      private func one(_ n: Int) throws {
        var event = UsageEventText(
          id: "e\(n)", subject: "lic_\(Int.random(in: 0..<50, using: &random))")
        // Events are hours late, and some of them weeks.
        let late = Int.random(in: 0..<100, using: &random)
        let span: Int64 = late < 80 ? 3_600_000 * 2 : late < 97 ? 3_600_000 * 30 : 86_400_000 * 33
        event.milliseconds -= Int64.random(in: 0..<span, using: &random)
        event.meter = ["api_calls", "api_calls", "seats", "exports"].randomElement(using: &random)!
        event.quantity = Int64.random(in: 0...50, using: &random)
        event.domain = "d\(Int.random(in: 0..<12, using: &random)).example.com"
        if Bool.random(using: &random) {
          event.feature = ["analytics", "webhooks", "größe \"x\""].randomElement(using: &random)!
        }
        let name = names.randomElement(using: &random)!
        event.producer = name
        let isGarbage = Int.random(in: 0..<100, using: &random) == 0
        if isGarbage { return try garbage(n, event, name) }
        event.sequence = nextSequence(name)
        try send(event.subject, Array(event.json().utf8))
        truth.count(event)
        recent.append(event)
        if recent.count > 2_000 { recent.removeFirst(1_000) }
        // The same event under a new sequence of its producer. Only its id shows that it is a
        // duplicate.
        if Int.random(in: 0..<50, using: &random) == 0,
          var old = recent.randomElement(using: &random)
        {
          old.producer = name
          old.sequence = nextSequence(name)
          try send(old.subject, Array(old.json().utf8))
        }
        // A record that was sent a while ago is sent once more.
        if again.count > 500, let record = again.first {
          again.removeFirst()
          try put(record.key, record.value)
        }
      }

      private func garbage(_ n: Int, _ event: UsageEventText, _ name: String) throws {
        var event = event
        let kind = Int.random(in: 0..<20, using: &random)
        // The ledger counts those whose producer and sequence can be read.
        let isReadable = ![0, 1, 2, 16, 17, 19].contains(kind)
        if isReadable { event.sequence = nextSequence(name) }
        // This kind makes the sequence invalid, so there must be one.
        if kind == 17 { event.sequence = 0 }
        let bad = DeadLetterTests.garbage(kind, event)
        if let value = bad.value { reasons[value] = bad.reason }
        try send(bad.key, bad.value)
      }

      private func nextSequence(_ name: String) -> Int64 {
        sequences[name, default: 0] += 1
        return sequences[name]!
      }

      /// Sends a record one to three times, immediately or later.
      private func send(_ key: String?, _ value: [UInt8]?) throws {
        try put(key, value)
        for _ in 0..<Int.random(in: 0...2, using: &random) {
          if Bool.random(using: &random) { try put(key, value) } else { again.append((key, value)) }
        }
      }

      private func put(_ key: String?, _ value: [UInt8]?) throws {
        try log.send(key: key, value: value)
        records += 1
      }

      private func report(isFinal: Bool) throws {
        for name in names {
          let text = UsageEventText.report(
            producer: name, accepted: sequences[name] ?? 0, isFinal: isFinal)
          try put(name, Array(text.utf8))
        }
      }
    }

    private enum Fault: CaseIterable {
      case kill, stop, crashDatabase, takeDatabaseAway, takeBrokersAway, leaveAndJoin
    }

    @Test("Counts equal the truth whatever is killed, cut off or sent twice")
    func chaos() throws {
      let seed = SeededRandom.testSeed()
      print("chaos: METER_TEST_SEED=\(seed)")
      var random = SeededRandom(seed: seed)
      let postgres = try PrivatePostgres()
      let pipeline = try Pipeline(
        log: UsageLog(partitions: 8, mayBeGiven: true),
        database: TestDatabase(url: postgres.makeDatabase()))
      var anchors: [String: Int] = [:]
      for n in 0..<20 {
        anchors["lic_\(n)"] = [1, 15, 28, 30, 31, 7, 23][n % 7]
        try pipeline.database.addLicense("lic_\(n)", anchorDay: anchors["lic_\(n)"]!)
        for meter in ["api_calls", "seats"] {
          let limit = Int.random(in: 0...20_000, using: &random)
          try pipeline.database.execute(
            "insert into license_limit values ('lic_\(n)', '\(meter)', \(limit))")
        }
      }
      let environment = ["METER_DATABASE_PATIENCE": "3s"]
      func member() throws -> ConsumerProcess {
        try pipeline.start(briefSessions: false, environment: environment)
      }
      var members = [try member(), try member(), try member()]
      let producer = Producer(pipeline.log, seed: random.next())
      producer.start(eventsPerSecond: 900)

      // Each fault happens in any order, and some happen twice.
      var faults = Fault.allCases + [.kill, .leaveAndJoin]
      // The test cannot stop a Kafka that it was given.
      if GivenKafka.brokers != nil { faults.removeAll { $0 == .takeBrokersAway } }
      faults.shuffle(using: &random)
      for fault in faults {
        print("chaos: \(fault), \(pipeline.log.partitions) partitions")
        let victim = Int.random(in: 0..<members.count, using: &random)
        // The sleeps are how long the fault lasts. Nothing has to happen within them.
        switch fault {
        case .kill:
          members[victim].process.killNow()
          members[victim] = try member()
        case .stop:
          members[victim].process.signal(SIGSTOP)
          Thread.sleep(forTimeInterval: 8)
          members[victim].process.signal(SIGCONT)
        case .crashDatabase:
          try postgres.stop(mode: "immediate")
          try postgres.start()
        case .takeDatabaseAway:
          try postgres.stop()
          Thread.sleep(forTimeInterval: 5)
          try postgres.start()
        case .takeBrokersAway:
          // Only while the group is at rest, and for less than a session. librdkafka 2.0.2's mock
          // cluster aborts this process (`!member->resp` in rdkafka_mock_cgrp.c) when a member asks
          // to join while an answer to it is still held back. After lost connections that happens.
          try eventually("every partition is owned once", within: 60) {
            members.reduce(0) { $0 + ($1.metric("meter_owned_partitions") ?? 0) } == 8
              && members.allSatisfy { $0.ready()?.status == 200 }
          }
          try pipeline.log.cluster.setBrokerDown()
          Thread.sleep(forTimeInterval: 3)
          try pipeline.log.cluster.setBrokerUp()
        case .leaveAndJoin:
          // A program that is still being loaded is simply ended by a signal.
          try eventually("it runs") { members[victim].ready() != nil }
          try pipeline.expectStops(members[victim])
          members[victim] = try member()
        }
        Thread.sleep(forTimeInterval: Double.random(in: 1...4, using: &random))
      }
      producer.stop()
      #expect(producer.failure == nil)
      #expect(
        producer.records > 50_000, "\(producer.records) records in \(producer.truth.events) events")
      print("chaos: \(producer.records) records, \(producer.truth.events) events")

      try pipeline.waitUntilCounted(within: 90)
      expectNone(try producer.truth.differences(pipeline.database, anchors: anchors))
      try expectDeadLetters(producer.reasons, pipeline)
      try expectLedger(pipeline)
      // The comparison is repeated after everything is merged.
      try eventually("merged") {
        try pipeline.database.integer("select count(*) from usage_pending") == 0
      }
      expectNone(try producer.truth.differences(pipeline.database, anchors: anchors))
      try expectLimitAlerts(pipeline)
      try Meterctl.expectReconciled(pipeline)
      for member in members { try pipeline.expectStops(member) }
    }

    /// Each garbage record in the log is a dead letter, and nothing else is. A retry of an
    /// idempotent producer may stand in the log twice.
    private func expectDeadLetters(_ reasons: [[UInt8]: String], _ pipeline: Pipeline) throws {
      var expected: Set<String> = []
      try pipeline.log.readAll { record in
        let reason = record.value.map { reasons[Array($0)] } ?? "tombstone"
        if let reason { expected.insert("\(record.partition) \(record.offset) \(reason)") }
      }
      let rows = try pipeline.database.rows(
        "select partition || ' ' || log_offset || ' ' || reason from dead_letter where log_epoch = 1"
      )
      let found = rows.map { $0[0]! }
      #expect(expected.count > 50)
      #expect(Set(found).count == found.count, "a dead letter is stored twice")
      #expect(Set(found).symmetricDifference(expected).sorted().prefix(10) == [])
    }

    /// Every threshold that a period's usage reached raised exactly one alert, and no other
    /// threshold did. The running sums equal the rows.
    private func expectLimitAlerts(_ pipeline: Pipeline) throws {
      let reached = """
        select l.license_id, l.meter, p.period_start, t.percent
        from usage_by_period p join license_limit l using (license_id, meter), (values (80), (100)) t(percent)
        where p.quantity * 100 >= l.quantity * t.percent and p.quantity > 0 and (l.quantity > 0 or t.percent = 100)
          and p.period_end::date >= (now() at time zone 'UTC')::date - 7
        """
      let told = """
        select license_id, data->>'meter', (data->>'period_start')::timestamptz, (data->>'threshold_percent')::int
        from alert where (data->>'threshold_percent')::int <= 100
        """
      func count(_ rows: String) throws -> Int64? {
        try pipeline.database.integer("select count(*) from (\(rows)) x")
      }
      #expect(try count(reached)! > 10)
      #expect(try count("\(reached) except \(told)") == 0)
      #expect(try count("\(told) except \(reached)") == 0)
      #expect(try count(told) == count(reached))
      #expect(
        try count(
          """
          select from limit_state s left join usage_by_period p on p.license_id = s.license_id
            and p.meter = s.meter and (p.period_start at time zone 'UTC')::date = s.period_start
          where s.used <> coalesce(p.quantity, 0)
          """) == 0)
    }

    private func expectLedger(_ pipeline: Pipeline) throws {
      var last: [[String?]] = []
      try eventually("the final reports are judged, with nothing missing: \(last)") {
        last = try pipeline.database.rows(
          """
          select l.producer, l.accepted, l.counted, l.duplicates, l.dead_lettered, l.in_flight, l.missing
          from producer_ledger l join producer_report r using (consumer_group, topic, producer)
          where r.final and r.judged_at is not null order by 1
          """)
        return last.count == 3
      }
      for row in last {
        #expect(row[5] == "0" && row[6] == "0", "\(row)")
      }
    }
  }
}
