import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// What librdkafka's mock cluster lacks and the Kafka of `METER_TEST_KAFKA_BROKERS` has.
  @Suite(.realKafkaOnly) struct RealKafkaTests {
    private func event(_ id: String) -> (key: String?, value: [UInt8]) {
      (key: "lic_1", value: Array(UsageEventText(id: id, subject: "lic_1").json().utf8))
    }

    private func count(_ pipeline: Pipeline) throws -> Int64? {
      try pipeline.database.integer("select sum(quantity)::bigint from usage_by_hour")
    }

    @Test
    func
      `Events of a transaction count when it commits, and never when it aborts`()
      throws
    {
      let pipeline = try Pipeline(partitions: 1)
      let aggregator = try pipeline.start()
      let producer = try TransactionalProducer(
        brokers: pipeline.log.brokers, id: "test-\(UUID().uuidString)")
      let topic = pipeline.log.nameAtBrokers
      for round in 0..<3 {
        try producer.begin()
        try producer.send(topic, (0..<20).map { event("aborted\(round)-\($0)") })
        try producer.abort()
        try producer.begin()
        try producer.send(topic, (0..<20).map { event("committed\(round)-\($0)") })
        try producer.commit()
      }
      try pipeline.waitUntilCounted()
      #expect(try count(pipeline) == 60)
      try pipeline.expectStops(aggregator)
      // The stored offset is behind the last marker, so that the next process begins there.
      let second = try pipeline.start()
      try second.waitUntilReady()
      #expect(second.metric("meter_consumer_lag") == 0)
      try pipeline.expectStops(second)
      try Meterctl.expectReconciled(pipeline)
    }

    @Test
    func
      `Records that were deleted before they were counted stop their partition, with the remedy`()
      throws
    {
      let pipeline = try Pipeline(partitions: 1)
      let first = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(100)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(first)
      var lost = Traffic(pipeline.log)
      try lost.send(50)
      try RawAdmin(brokers: pipeline.log.brokers)
        .deleteRecords(pipeline.log.nameAtBrokers, partition: 0, before: 150)
      let second = try pipeline.start()
      try second.waitUntilUnavailable("meterctl topics accept-gap")
      expectNone(try traffic.truth.differences(pipeline.database))
      try pipeline.expectStops(second)
    }

    @Test func `Records that were deleted after they were counted change nothing`() throws {
      let pipeline = try Pipeline(partitions: 1)
      let first = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(100)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(first)
      try RawAdmin(brokers: pipeline.log.brokers)
        .deleteRecords(pipeline.log.nameAtBrokers, partition: 0, before: 60)
      let second = try pipeline.start()
      try second.waitUntilReady()
      try traffic.send(30)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      try pipeline.expectStops(second)
    }

    @Test
    func `A topic that is created again while it is read stops its partitions first`()
      throws
    {
      let old = try Pipeline(partitions: 2)
      let aggregator = try old.start()
      var traffic = Traffic(old.log)
      try traffic.send(100)
      try old.waitUntilCounted()
      let new = try Pipeline(database: old.database, partitions: 2)
      for n in 0..<400 {
        var event = UsageEventText(id: "other\(n)", subject: "lic_\(n % 7)")
        event.quantity = 1_000
        try new.log.send(event)
      }
      try new.log.flush()
      try aggregator.waitUntilUnavailable("meterctl topics", within: 120)
      expectNone(try traffic.truth.differences(new.database))
      try old.expectStops(aggregator)
    }

    @Test func `A topic grows by the drained procedure, and what is sent again counts once`() throws
    {
      let pipeline = try Pipeline(partitions: 2)
      let first = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(200)
      try pipeline.waitUntilCounted()
      let grown = try Meterctl.run(
        ["topics", "grow", UsageLog.topic, "--to", "4", "--quiet", "1s", "--yes"], pipeline)
      #expect(grown.exit == 0, "\(grown.output)")
      let truth = traffic.truth
      var repeated = Traffic(pipeline.log)
      try repeated.send(200)
      try eventually("partitions are owned") {
        first.metric("meter_owned_partitions") == 4 && first.ready()?.status == 200
      }
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      try pipeline.expectStops(first)
      try Meterctl.expectReconciled(pipeline)
    }

    @Test
    func `Under LogAppendTime the broker's own time judges an event, whatever the producer says`()
      throws
    {
      let log = try UsageLog(
        partitions: 1, mayBeGiven: true, config: [("message.timestamp.type", "LogAppendTime")])
      let pipeline = try Pipeline(log: log)
      let aggregator = try pipeline.start()
      // By the producer's record time this event would be two days ahead, and so a dead letter.
      try log.send(
        key: "lic_1", value: event("e1").value, timestamp: UsageEventText.now - 2 * 86_400_000)
      try pipeline.waitUntilCounted()
      #expect(try count(pipeline) == 1)
      #expect(try pipeline.database.integer("select count(*) from dead_letter") == 0)
      try pipeline.expectStops(aggregator)
    }

    @Test func `A recount of a range begins where a look-up by time says`() throws {
      let pipeline = try Pipeline(partitions: 1)
      let aggregator = try pipeline.start()
      let hour = UsageEventText.now / 3_600_000 * 3_600_000
      for n in 0..<20 {
        let time = hour - 10_800_000 + Int64(n) * 1_000
        let event = UsageEventText(id: "old\(n)", subject: "lic_1", milliseconds: time)
        try pipeline.log.send(
          key: "lic_1", value: Array(event.json().utf8), timestamp: time)
      }
      var traffic = Traffic(pipeline.log)
      try traffic.send(20)
      try pipeline.waitUntilCounted()
      try eventually("merged") {
        try pipeline.database.integer("select count(*) from usage_pending") == 0
      }
      let answer = try Meterctl.run(
        [
          "reconcile", "--from", UsageEventText.time(milliseconds: hour - 3_600_000), "--json",
        ], pipeline)
      #expect(answer.exit == 0 && answer.output.contains(#""equal""#), "\(answer.output)")
      try pipeline.expectStops(aggregator)
    }
  }
}
