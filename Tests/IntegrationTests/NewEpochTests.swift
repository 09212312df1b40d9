import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  @Suite struct NewEpochTests {
    @Test func `A new epoch of an intact log is refused, because it would count everything again`()
      throws
    {
      let pipeline = try Pipeline(partitions: 4)
      let aggregator = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(400)
      try pipeline.waitUntilCounted()

      let refused = try Meterctl.run(["topics", "new-epoch", "--all", "--yes"], pipeline)
      #expect(refused.exit == 3, "\(refused.output)")
      #expect(refused.output.contains("would count again"), "\(refused.output)")
      #expect(refused.output.contains("--force"), "\(refused.output)")
      #expect(try pipeline.database.integer("select max(log_epoch) from consumer_offset") == 1)
      try traffic.send(40)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      try pipeline.expectStops(aggregator)

      // An accepted gap leaves no record to compare with, so the log is still refused.
      try pipeline.database.execute(
        "update consumer_offset set last_record_offset = null, last_record_hash = null")
      let unproven = try Meterctl.run(
        ["topics", "new-epoch", "--topic", UsageLog.topic, "--yes"], pipeline)
      #expect(unproven.exit == 3 && unproven.output.contains("nothing shows"), "\(unproven.output)")

      let forced = try Meterctl.run(["topics", "new-epoch", "--all", "--yes", "--force"], pipeline)
      #expect(forced.exit == 0, "\(forced.output)")
      #expect(try pipeline.database.integer("select max(log_epoch) from consumer_offset") == 2)
    }

    @Test func `A topic that was created again gets its new epoch and loses its halts`() throws {
      let old = try Pipeline(partitions: 2)
      let first = try old.start()
      var traffic = Traffic(old.log)
      try traffic.send(100)
      try old.waitUntilCounted()
      try old.expectStops(first)
      try old.database.execute(
        """
        insert into partition_halt (consumer_group, topic, partition, reason)
        values ('usage-aggregator', 'license.usage.v1', 0, 'test')
        """)

      let new = try Pipeline(database: old.database, partitions: 2)
      for n in 0..<300 { try new.log.send(UsageEventText(id: "n\(n)", subject: "lic_\(n % 7)")) }
      try new.log.flush()
      let begun = try Meterctl.run(["topics", "new-epoch", "--all", "--yes", "--json"], new)
      #expect(begun.exit == 0 && begun.output.contains(#""log_epoch": 2"#), "\(begun.output)")
      #expect(try new.database.integer("select count(*) from partition_halt") == 0)
    }

    @Test func `A fresh database takes a new epoch without a question`() throws {
      let pipeline = try Pipeline(partitions: 2)
      let begun = try Meterctl.run(["topics", "new-epoch", "--all", "--yes"], pipeline)
      #expect(begun.exit == 0, "\(begun.output)")
    }
  }
}
