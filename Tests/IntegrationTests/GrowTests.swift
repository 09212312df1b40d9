import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  @Suite struct GrowTests {
    private static let grow = ["topics", "grow", UsageLog.topic, "--quiet", "300ms", "--yes"]

    /// A topic whose partitions were doubled without `meterctl`: the cluster has four, and two were
    /// counted.
    private func grownPipeline() throws -> Pipeline {
      let pipeline = try Pipeline(partitions: 4)
      let aggregator = try pipeline.start()
      for n in 0..<60 {
        var event = UsageEventText(id: "e\(n)", subject: "lic_\(n % 5)")
        if n % 2 == 0 {
          event.producer = "eu-1"
          event.sequence = Int64(n + 1)
        }
        try pipeline.log.send(event, partition: Int32(n % 2))
      }
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(aggregator)
      for table in ["consumer_offset", "dedupe_window", "producer_sequence"] {
        try pipeline.database.execute("delete from \(table) where partition >= 2")
      }
      return pipeline
    }

    @Test func `What is sent again to a child partition counts once, by its parent's window`()
      throws
    {
      let pipeline = try grownPipeline()
      let grown = try Meterctl.run(Self.grow + ["--to", "4", "--json"], pipeline)
      #expect(grown.exit == 0 && grown.output.contains(#""grown": true"#), "\(grown.output)")
      let again = try Meterctl.run(Self.grow + ["--to", "4"], pipeline)
      #expect(again.exit == 0 && again.output.contains("already"), "\(again.output)")

      // The keys have moved. What went to partition p now goes to p + 2.
      for n in 0..<60 {
        var event = UsageEventText(id: "e\(n)", subject: "lic_\(n % 5)")
        if n % 4 == 0 {
          // This event is recognized by its sequence alone.
          event.id = "other\(n)"
          event.producer = "eu-1"
          event.sequence = Int64(n + 1)
        }
        try pipeline.log.send(event, partition: Int32(n % 2 + 2))
        try pipeline.log.send(
          UsageEventText(id: "new\(n)", subject: "lic_\(n % 5)"), partition: Int32(n % 2 + 2))
      }
      var aggregator = try pipeline.start()
      try pipeline.waitUntilCounted()
      #expect(
        try pipeline.database.integer("select sum(quantity)::bigint from usage_by_hour") == 120)
      // After a restart the window is read again. The child has only a part of it.
      try pipeline.expectStops(aggregator)
      for n in 0..<60 where n % 4 != 0 {
        try pipeline.log.send(
          UsageEventText(id: "e\(n)", subject: "lic_\(n % 5)"), partition: Int32(n % 2 + 2))
      }
      aggregator = try pipeline.start()
      try pipeline.waitUntilCounted()
      #expect(
        try pipeline.database.integer("select sum(quantity)::bigint from usage_by_hour") == 120)
      try pipeline.expectStops(aggregator)
      try Meterctl.expectReconciled(pipeline)
      // Many of the child's records repeat records of its parent.
      let hour = UsageEventText.now / 3_600_000 * 3_600_000
      let explained = try Meterctl.run(
        [
          "explain", "--license", "lic_0",
          "--from", UsageEventText.time(milliseconds: hour - 3_600_000),
          "--to", UsageEventText.time(milliseconds: hour + 7_200_000), "--json",
        ], pipeline)
      #expect(explained.exit == 0 && explained.output.contains(#""equal""#), "\(explained.output)")
    }

    @Test func `A topic that is not drained does not grow`() throws {
      let pipeline = try grownPipeline()
      func refusal(_ text: String) throws {
        let refused = try Meterctl.run(Self.grow, pipeline)
        #expect(refused.exit == 3 && refused.output.contains(text), "\(refused.output)")
        #expect(try pipeline.database.integer("select count(*) from consumer_offset") == 2)
      }
      try pipeline.database.execute(
        """
        insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped, final,
          reported_at, log_epoch)
        values ('usage-aggregator', 'license.usage.v1', 'eu-1', 40, 0, 0, false, now(), 1)
        """)
      try refusal("in flight")
      try pipeline.database.execute("delete from producer_report")
      try pipeline.log.send(UsageEventText(id: "late", subject: "lic_0"), partition: 0)
      try pipeline.log.flush()
      try refusal("1 records of partition 0 left")
    }

    @Test(.mockClusterOnly) func `If the broker makes no partitions, nothing is left behind`()
      throws
    {
      let pipeline = try Pipeline(partitions: 2)
      let aggregator = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(20)
      try pipeline.waitUntilCounted()
      let refused = try Meterctl.run(Self.grow + ["--to", "4"], pipeline)
      #expect(refused.exit == 3 && refused.output.contains("mock cluster"), "\(refused.output)")
      for table in ["consumer_offset", "partition_parent", "producer_sequence", "dedupe_window"] {
        #expect(
          try pipeline.database.integer("select count(*) from \(table) where partition >= 2") == 0)
      }
      let odd = try Meterctl.run(Self.grow + ["--to", "6"], pipeline)
      #expect(odd.exit == 3 && odd.output.contains("--to 4"), "\(odd.output)")
      try pipeline.expectStops(aggregator)
    }
  }

  @Suite struct UnregisteredTests {
    @Test func `Usage of unregistered licenses is listed in pages and counted`() throws {
      let pipeline = try Pipeline(partitions: 2)
      try pipeline.database.addLicense("lic_1")
      var traffic = Traffic(pipeline.log)
      try traffic.send(70, licenses: 7)
      var aggregator = try pipeline.start()
      try pipeline.waitUntilCounted()

      let first = try Meterctl.run(["license", "unregistered", "--limit", "4", "--json"], pipeline)
      #expect(first.exit == 0, "\(first.output)")
      #expect(first.output.contains(#""total_licenses": 6"#), "\(first.output)")
      #expect(first.output.contains(#""next_after": "lic_4""#), "\(first.output)")
      #expect(!first.output.contains(#""lic_1""#))
      let rest = try Meterctl.run(["license", "unregistered", "--after", "lic_4"], pipeline)
      #expect(rest.output.contains("lic_5") && rest.output.contains("lic_6"), "\(rest.output)")
      #expect(!rest.output.contains("lic_4"))

      // The gauge is computed when the process starts.
      try pipeline.expectStops(aggregator)
      aggregator = try pipeline.start()
      try eventually("the gauge") { aggregator.metric("meter_unregistered_licenses") == 6 }
      try pipeline.expectStops(aggregator)
    }
  }
}
