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

/// What a URL of the tests says.
enum PostgresAddress {
  static func port(of url: String) throws -> Int {
    let host = url.split(separator: "@").last ?? ""
    let digits = host.drop { $0 != ":" }.dropFirst().prefix { $0.isNumber }
    return try #require(Int(digits))
  }
}
