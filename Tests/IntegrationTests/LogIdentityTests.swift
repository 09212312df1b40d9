import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// The topic was made anew while nobody looked.
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

      let new = try Pipeline(log: UsageLog(partitions: 2), database: old.database)
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
    @Test("Where the log speaks of no row at all, reconcile says so and ends with status 4")
    func nothingProved() throws {
      let old = try Pipeline(partitions: 2)
      let first = try old.start()
      var traffic = Traffic(old.log)
      try traffic.send(50)
      try old.waitUntilCounted()
      try old.expectStops(first)
      try Meterctl.expectReconciled(old)

      let new = try Pipeline(log: UsageLog(partitions: 2), database: old.database)
      _ = try EpochStore(try new.database.connection()).beginEpoch(
        topic: UsageLog.topic, groups: ["usage-aggregator"],
        (0..<2).map { (Int32($0), Int64(0)) })
      let answer = try Meterctl.run(["reconcile", "--json"], new)
      #expect(answer.exit == 4)
      #expect(answer.output.contains(#""nothing_proved""#), "\(answer.output)")
      #expect(try Meterctl.run(["reconcile"], new).output.contains("NOTHING WAS PROVED"))
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
      // Some of them are remembered, others known by their ids alone; both are resends.
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

/// What a URL of the tests says.
enum PostgresAddress {
  static func port(of url: String) throws -> Int {
    let host = url.split(separator: "@").last ?? ""
    let digits = host.drop { $0 != ":" }.dropFirst().prefix { $0.isNumber }
    return try #require(Int(digits))
  }
}
