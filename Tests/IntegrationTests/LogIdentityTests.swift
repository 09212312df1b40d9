import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// The topic was created again while no consumer was running.
  @Suite struct LogIdentityTests {
    @Test(
      "A log that is not the one remembered stops the count until a new epoch begins",
      arguments: [
        (records: 400, reason: "is not the one remembered"), (records: 20, reason: "made anew"),
      ])
    func newLog(_ other: (records: Int, reason: String)) throws {
      let old = try Pipeline(partitions: 2)
      let first = try old.start()
      var traffic = Traffic(old.log)
      try traffic.send(200)
      try old.waitUntilCounted()
      try old.expectStops(first)
      let before = try old.database.rows(
        "select partition, next_offset, log_epoch from consumer_offset order by 1")

      let new = try Pipeline(database: old.database, partitions: 2)
      var truth = traffic.truth
      for n in 0..<other.records {
        var event = UsageEventText(id: "other\(n)", subject: "lic_\(n % 7)")
        event.quantity = 1_000
        truth.count(event)
        try new.log.send(event)
      }
      try new.log.flush()
      let second = try new.start()
      try second.waitUntilUnavailable(other.reason)
      try second.waitUntilUnavailable("meterctl topics")
      expectNone(try traffic.truth.differences(new.database))
      #expect(
        try new.database.rows(
          "select partition, next_offset, log_epoch from consumer_offset order by 1") == before)

      let epochs = EpochStore(try new.database.connection())
      let epoch = try epochs.beginEpoch(
        topic: UsageLog.topic, groups: ["usage-aggregator"],
        (0..<2).map { (Int32($0), Int64(0)) })
      #expect(epoch == 2)
      try second.waitUntilReady()
      try new.waitUntilCounted()
      expectNone(try truth.differences(new.database))
      #expect(
        try new.database.integer(
          "select count(distinct log_epoch) from usage_provenance") == 2)
    }
  }
}

extension IntegrationTests {
  @Suite struct ProofTests {
    @Test("If the log says nothing about any row, reconcile says so and ends with status 4")
    func nothingProved() throws {
      let old = try Pipeline(partitions: 2)
      let first = try old.start()
      var traffic = Traffic(old.log)
      try traffic.send(50)
      try old.waitUntilCounted()
      try old.expectStops(first)
      try Meterctl.expectReconciled(old)

      let new = try Pipeline(database: old.database, partitions: 2)
      _ = try EpochStore(try new.database.connection()).beginEpoch(
        topic: UsageLog.topic, groups: ["usage-aggregator"],
        (0..<2).map { (Int32($0), Int64(0)) })
      let answer = try Meterctl.run(["reconcile", "--json"], new)
      #expect(answer.exit == 4)
      #expect(answer.output.contains(#""nothing_proved""#), "\(answer.output)")
      #expect(try Meterctl.run(["reconcile"], new).output.contains("NOTHING WAS PROVED"))

      // Rows that were never there, or are gone, leave no trace in a time that the log does not cover.
      let past = try Meterctl.run(
        ["reconcile", "--from", "2020-01-01T00:00:00Z", "--to", "2020-02-01T00:00:00Z"], new)
      #expect(past.exit == 4)
      #expect(past.output.contains("cannot be read any more"), "\(past.output)")
      #expect(!past.output.contains("EQUAL"), "\(past.output)")
    }

    @Test func `After a new epoch, the calls of earlier producers are proved row by row`() throws {
      let old = try Pipeline(partitions: 2)
      let first = try old.start()
      try Self.send(1...60, of: "lic_a", to: old.log)
      try old.waitUntilCounted()
      try old.expectStops(first)

      let new = try Pipeline(database: old.database, partitions: 2)
      _ = try EpochStore(try new.database.connection()).beginEpoch(
        topic: UsageLog.topic, groups: ["usage-aggregator"],
        (0..<2).map { (Int32($0), Int64(0)) })
      let second = try new.start()
      // Some events were sent again. Only their sequences show it, and those belong to the old log.
      try Self.send(41...100, of: "lic_a", to: new.log)
      try Self.send(101...140, of: "lic_gone", to: new.log)
      try new.waitUntilCounted()
      try Self.waitUntilMerged(new)
      try new.expectStops(second)
      #expect(
        try new.database.integer(
          "select sum(event_count)::bigint from usage_by_hour where license_id = 'lic_a'") == 100)

      let whole = try Meterctl.run(["reconcile", "--json"], new)
      #expect(whole.exit == 0, "\(whole.output.suffix(4_000))")
      #expect(try Self.rows("hour", whole.output).equal == 2, "\(whole.output.suffix(4_000))")
      #expect(try Self.rows("producer", whole.output).different == 0)
      try Self.expectRemovalIsSeen(new)
    }

    @Test(.mockClusterOnly)
    func `After retention, the calls after a checkpoint are proved row by row`() throws {
      let pipeline = try Pipeline(partitions: 1)
      let environment = ["METER_DEDUPE_WINDOW": "1024"]
      let first = try pipeline.start(environment: environment)
      let hour = UsageEventText.now / 3_600_000 * 3_600_000
      try Self.send(1...60, of: "lic_a", at: hour - 7_200_000, to: pipeline.log)
      try pipeline.waitUntilCounted()
      // The mock cluster keeps 5 MB per partition.
      var random = SeededRandom(seed: 7)
      let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
      for n in 0..<170 {
        let noise = String((0..<60_000).map { _ in letters[Int(random.next() & 63)] })
        let event = UsageEventText(id: "filler\(n)", subject: "lic_filler")
        try pipeline.log.send(
          key: "lic_filler", value: Array(event.json(changing: ["noise": "\"\(noise)\""]).utf8))
      }
      for n in 0..<1_100 {
        try pipeline.log.send(UsageEventText(id: "window\(n)", subject: "lic_filler"))
      }
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(first)
      let second = try pipeline.start(environment: environment)
      let end = try #require(try pipeline.log.ends().first)
      try eventually("a checkpoint when the process begins") {
        try pipeline.database.integer(
          "select count(*) from audit_checkpoint where next_offset = \(end)") == 1
      }
      try Self.send(61...100, of: "lic_a", at: hour - 7_200_000, to: pipeline.log)
      try Self.send(101...140, of: "lic_gone", at: hour - 3_600_000, to: pipeline.log)
      try pipeline.waitUntilCounted()
      try Self.waitUntilMerged(pipeline)
      try pipeline.expectStops(second)

      let whole = try Meterctl.run(["reconcile", "--json"], pipeline)
      #expect(whole.exit == 0, "\(whole.output.suffix(4_000))")
      #expect(whole.output.contains(#""not_provable""#))
      // The equal hour is that of lic_gone. The log has only a part of the hours of lic_a and
      // lic_filler.
      #expect(try Self.rows("hour", whole.output).equal == 1, "\(whole.output.suffix(4_000))")
      #expect(try Self.rows("hour", whole.output).atLeast >= 1)
      try pipeline.database.execute(
        """
        update usage_hour set quantity = 39, event_count = 39 where license_id = 'lic_a'
        """)
      let part = try Meterctl.run(["reconcile", "--json"], pipeline)
      #expect(part.exit == 1 && part.output.contains("only a part of it"), "\(part.output)")
      try pipeline.database.execute(
        "update usage_hour set quantity = 100, event_count = 100 where license_id = 'lic_a'")
      try Self.expectRemovalIsSeen(pipeline)
    }

    private static func send(
      _ sequences: ClosedRange<Int64>, of license: String, at milliseconds: Int64? = nil,
      to log: UsageLog
    ) throws {
      for n in sequences {
        // Every event has its own id, so that a repeated sequence is recognized by nothing else.
        var event = UsageEventText(id: "\(license)-\(sequences.lowerBound)-\(n)", subject: license)
        event.milliseconds = milliseconds ?? event.milliseconds
        event.producer = "eu-1"
        event.sequence = n
        try log.send(event, partition: 0)
      }
      try log.flush()
    }

    private static func waitUntilMerged(_ pipeline: Pipeline) throws {
      try eventually("all merged") {
        try pipeline.database.integer("select count(*) from usage_pending") == 0
      }
    }

    /// Removes all of lic_gone from the tables, as if it had never been counted.
    private static func expectRemovalIsSeen(_ pipeline: Pipeline) throws {
      for table in ["usage_hour", "usage_day", "usage_delta", "usage_license_period"] {
        try pipeline.database.execute("delete from \(table) where license_id = 'lic_gone'")
      }
      let answer = try Meterctl.run(["reconcile", "--json"], pipeline)
      #expect(answer.exit == 1, "\(answer.output.suffix(4_000))")
      #expect(try rows("hour", answer.output).different == 1, "\(answer.output.suffix(4_000))")
      #expect(answer.output.contains(#""license_id": "lic_gone""#))
    }

    /// What reconcile's JSON says about one kind of row.
    private static func rows(
      _ kind: String, _ output: String
    ) throws -> (equal: Int, different: Int, atLeast: Int) {
      let json = try #require(
        JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
      let rows = try #require((json["rows"] as? [String: Any])?[kind] as? [String: Int])
      return (rows["equal"] ?? 0, rows["different"] ?? 0, rows["at_least"] ?? 0)
    }

    @Test("A flood of producers is counted within bounds, and the recount forgets the same ones")
    func manyProducers() throws {
      let pipeline = try Pipeline(partitions: 1)
      let aggregator = try pipeline.start()
      var truth = UsageTruth()
      func send(_ n: Int, counts: Bool) throws {
        var event = UsageEventText(id: "f\(n)", subject: "lic_\(n % 7)")
        event.producer = "invented-\(n)"
        event.sequence = 1
        if counts { truth.count(event) }
        try pipeline.log.send(event)
      }
      for n in 0..<6_000 { try send(n, counts: true) }
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(aggregator)
      try pipeline.start()
      // Some producers are remembered, and of others only the ids are known. Both are resends.
      for n in stride(from: 0, to: 6_000, by: 50) { try send(n, counts: false) }
      for n in 6_000..<6_100 { try send(n, counts: true) }
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      #expect(try pipeline.database.integer("select count(*) from producer_sequence") == 4_096)
      let answer = try Meterctl.run(["reconcile", "--json"], pipeline)
      #expect(answer.exit == 0, "\(answer.output.suffix(4_000))")
    }
  }
}

/// Parts of a test database's URL.
enum PostgresAddress {
  static func port(of url: String) throws -> Int {
    let host = url.split(separator: "@").last ?? ""
    let digits = host.drop { $0 != ":" }.dropFirst().prefix { $0.isNumber }
    return try #require(Int(digits))
  }
}
