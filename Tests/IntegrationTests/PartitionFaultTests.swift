import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// Each partition is judged separately.
  @Suite(.mockClusterOnly) struct PartitionFaultTests {
    private func place(_ partition: Int32) -> TopicPartition {
      TopicPartition(topic: UsageLog.topic, partition: partition)
    }

    /// Sends to the given partitions only.
    private func send(
      _ count: Int, _ name: String, to partitions: [Int32], _ pipeline: Pipeline,
      _ truth: inout UsageTruth
    ) throws {
      for n in 0..<count {
        let event = UsageEventText(id: "\(name)\(n)", subject: "lic_\(n % 7)")
        truth.count(event)
        try pipeline.log.send(event, partition: partitions[n % partitions.count])
      }
      try pipeline.log.flush()
    }

    private func waitUntilCounted(_ count: Int, _ pipeline: Pipeline) throws {
      try eventually("\(count) events counted") {
        try pipeline.database.integer(
          "select coalesce(sum(event_count), 0)::bigint from usage_by_day")
          == Int64(count)
      }
    }

    @Test("A partition without a leader holds up no other, and continues when it has one")
    func leaderless() throws {
      let pipeline = try Pipeline(partitions: 6)
      var truth = UsageTruth()
      try send(60, "a", to: [0, 1, 2, 3, 4, 5], pipeline, &truth)
      try pipeline.log.cluster.setLeader(place(3), broker: nil)
      let aggregator = try pipeline.start()
      // Ten of the sixty are in partition 3.
      try waitUntilCounted(50, pipeline)
      try aggregator.waitUntilUnavailable("partition 3")
      let text = try #require(aggregator.ready()?.body)
      #expect(!text.contains("partition 2"), "\(text)")

      // Another partition loses its leader while it is read.
      try pipeline.log.cluster.setLeader(place(4), broker: nil)
      try aggregator.waitUntilUnavailable("partitions 3-4", within: 60)
      try send(40, "b", to: [0, 1, 2, 5], pipeline, &truth)
      try waitUntilCounted(90, pipeline)

      for partition: Int32 in [3, 4] {
        try pipeline.log.cluster.setLeader(place(partition), broker: 1)
      }
      try aggregator.waitUntilReady()
      try send(60, "c", to: [0, 1, 2, 3, 4, 5], pipeline, &truth)
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      #expect(!aggregator.process.output.contains("starts over"))
      try pipeline.expectStops(aggregator)
    }

    @Test("Errors that pass by themselves at an assignment do not end the session")
    func retriableAtAssignment() throws {
      let pipeline = try Pipeline(partitions: 4)
      var truth = UsageTruth()
      try send(40, "a", to: [0, 1, 2, 3], pipeline, &truth)
      // NOT_LEADER, LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PART, REQUEST_TIMED_OUT.
      pipeline.log.cluster.pushRequestErrors(apiKey: .listOffsets, [6, 5, 3, 7])
      let aggregator = try pipeline.start()
      try aggregator.waitUntilReady()
      pipeline.log.cluster.clearRequestErrors(apiKey: .listOffsets)
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      #expect(!aggregator.process.output.contains("starts over"))
      try pipeline.expectStops(aggregator)
    }

    @Test(
      "After a topic was unknown for a moment, its log is recognized and read from where it was")
    func unknownForAMoment() throws {
      let pipeline = try Pipeline(partitions: 4)
      let aggregator = try pipeline.start()
      var truth = UsageTruth()
      try send(40, "a", to: [0, 1, 2, 3], pipeline, &truth)
      try pipeline.waitUntilCounted()
      for round in 0..<3 {
        pipeline.log.cluster.pushRequestErrors(apiKey: .fetch, [3, 6, 3, 6])
        try send(40, "r\(round)-", to: [0, 1, 2, 3], pipeline, &truth)
        try pipeline.waitUntilCounted()
      }
      try aggregator.waitUntilReady()
      expectNone(try truth.differences(pipeline.database))
      #expect(!aggregator.process.output.contains("starts over"))
      #expect(!aggregator.process.output.contains("stand still"))
      try pipeline.expectStops(aggregator)
    }

    @Test("A record that is not the remembered one stops its partition before more is counted")
    func anotherLogWhileRunning() throws {
      let pipeline = try Pipeline(partitions: 2)
      let first = try pipeline.start()
      var truth = UsageTruth()
      try send(40, "a", to: [0, 1], pipeline, &truth)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(first)
      try pipeline.database.execute(
        "update consumer_offset set last_record_hash = last_record_hash + 1 where partition = 1")
      let aggregator = try pipeline.start()
      try aggregator.waitUntilUnavailable("partition 1")
      try aggregator.waitUntilUnavailable("meterctl topics new-epoch")
      try send(20, "b", to: [0], pipeline, &truth)
      try waitUntilCounted(60, pipeline)
      // The halt is reported from the first moment on, however often the partition is checked
      // again.
      let late = UsageEventText(id: "late", subject: "lic_1")
      try pipeline.log.send(late, partition: 1)
      try pipeline.log.flush()
      for _ in 0..<60 {
        #expect(aggregator.ready()?.status == 503)
        #expect(aggregator.metric("meter_halted_partitions") == 1)
        Thread.sleep(forTimeInterval: 0.1)
      }
      let told = aggregator.process.output.components(separatedBy: "partitions stand still")
      #expect(told.count == 2, "it is logged once: \(aggregator.process.output)")

      try pipeline.database.execute(
        "update consumer_offset set last_record_hash = last_record_hash - 1 where partition = 1")
      try aggregator.waitUntilReady()
      truth.count(late)
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      #expect(aggregator.process.output.contains("partitions no longer stand still"))
      try pipeline.expectStops(aggregator)
    }

    @Test("A partition that was added to a counted topic stands still with its remedy")
    func newPartition() throws {
      let pipeline = try Pipeline(partitions: 4)
      let first = try pipeline.start()
      var truth = UsageTruth()
      try send(40, "a", to: [0, 1, 2], pipeline, &truth)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(first)
      #expect(try pipeline.database.integer("select count(*) from consumer_offset") == 4)
      // This looks as if the topic had had three partitions when the group began.
      try pipeline.database.execute("delete from consumer_offset where partition = 3")
      let aggregator = try pipeline.start()
      try aggregator.waitUntilUnavailable("meterctl topics grow")
      try send(40, "b", to: [0, 1, 2], pipeline, &truth)
      try send(10, "new", to: [3], pipeline, &truth)
      try waitUntilCounted(80, pipeline)
      try pipeline.database.execute(
        """
        insert into consumer_offset (consumer_group, topic, partition, next_offset)
        values ('usage-aggregator', 'license.usage.v1', 3, 0)
        """)
      try aggregator.waitUntilReady()
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      try pipeline.expectStops(aggregator)
    }

    @Test("The offset after a transaction's marker at the end of the log is stored")
    func controlRecords() throws {
      let pipeline = try Pipeline(partitions: 2)
      let aggregator = try pipeline.start()
      var truth = UsageTruth()
      try send(20, "a", to: [0, 1], pipeline, &truth)
      try pipeline.waitUntilCounted()
      for partition: Int32 in [0, 1] {
        try RawProduce.commitMarker(
          brokers: pipeline.log.brokers, topic: UsageLog.topic, partition: partition)
      }
      #expect(try pipeline.log.ends() == [11, 11])
      try pipeline.waitUntilCounted()
      try eventually("no lag") { aggregator.metric("meter_consumer_lag") == 0 }
      expectNone(try truth.differences(pipeline.database))
      try pipeline.expectStops(aggregator)
    }

    @Test("A batch that fails its checksum stops its partition, and no other")
    func badBatch() throws {
      let pipeline = try Pipeline(partitions: 2)
      let aggregator = try pipeline.start()
      var truth = UsageTruth()
      try send(20, "a", to: [0, 1], pipeline, &truth)
      try pipeline.waitUntilCounted()
      try RawProduce.batchWithWrongChecksum(
        brokers: pipeline.log.brokers, topic: UsageLog.topic, partition: 1)
      try send(20, "b", to: [0], pipeline, &truth)
      var lost = UsageTruth()
      try send(5, "behind", to: [1], pipeline, &lost)
      try aggregator.waitUntilUnavailable("fails its checksum")
      try aggregator.waitUntilUnavailable("partition 1")
      try waitUntilCounted(40, pipeline)
      expectNone(try truth.differences(pipeline.database))
      let bad = try #require(
        try pipeline.database.integer(
          "select next_offset from consumer_offset where partition = 1"))
      #expect(bad == 10)
      // Once the record is given up, counting goes on behind it.
      let gap = try Meterctl.run(
        [
          "topics", "accept-gap", "--partition", "1", "--to", "\(bad + 1)", "--reason", "test",
          "--yes",
        ], pipeline)
      #expect(gap.exit == 0, "\(gap.output)")
      try aggregator.waitUntilReady()
      try waitUntilCounted(45, pipeline)
      try pipeline.expectStops(aggregator)
    }
  }

  /// What `/health/ready` says about Kafka.
  @Suite(.mockClusterOnly) struct KafkaHealthTests {
    @Test("Kafka's absence is reported as long as it lasts")
    func outage() throws {
      let pipeline = try Pipeline(partitions: 2)
      let aggregator = try pipeline.start()
      try aggregator.waitUntilReady()
      try pipeline.log.cluster.setBrokerDown()
      try aggregator.waitUntilUnavailable("kafka")
      // This is longer than librdkafka repeats its errors.
      var answers: Set<Int> = []
      for _ in 0..<120 {
        answers.insert(aggregator.ready()?.status ?? 0)
        Thread.sleep(forTimeInterval: 0.1)
      }
      #expect(answers == [503])
      try pipeline.log.cluster.setBrokerUp()
      try aggregator.waitUntilReady()
      var traffic = Traffic(pipeline.log)
      try traffic.send(50)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(aggregator)
    }

    @Test("A refused connection is reported as such, not as a missing broker")
    func refused() throws {
      let pipeline = try Pipeline(partitions: 2)
      let aggregator = try pipeline.start(kafka: ["security.protocol": "ssl"])
      try aggregator.waitUntilUnavailable("SSL")
      #expect(aggregator.ready()?.body.contains("topics apply") == false)
      try pipeline.expectStops(aggregator)
    }

    @Test("A topic that may not be read is reported as such")
    func topicNotAuthorized() throws {
      let pipeline = try Pipeline(partitions: 2)
      pipeline.log.cluster.setTopicError(UsageLog.topic, code: 29)
      let aggregator = try pipeline.start()
      try aggregator.waitUntilUnavailable("Topic authorization failed")
      pipeline.log.cluster.setTopicError(UsageLog.topic, code: 0)
      try aggregator.waitUntilReady()
      try pipeline.expectStops(aggregator)
    }
  }
}

/// Produce requests made by hand. The client libraries make no invalid batch, and the mock cluster
/// has no transactions.
enum RawProduce {
  static func batchWithWrongChecksum(brokers: String, topic: String, partition: Int32) throws {
    let batch = body(attributes: 0, key: nil, value: Array("{}".utf8))
    try send(batch, checksum: ~crc32c(batch), brokers, topic, partition)
  }

  /// Writes the marker that a committed transaction leaves in the log.
  static func commitMarker(brokers: String, topic: String, partition: Int32) throws {
    let batch = body(attributes: 0x30, key: [0, 0, 0, 1], value: [0, 0, 0, 0, 0, 0])
    try send(batch, checksum: crc32c(batch), brokers, topic, partition)
  }

  /// A batch of one record, beginning with its attributes. This is the part that its checksum
  /// covers.
  private static func body(attributes: Int16, key: [UInt8]?, value: [UInt8]) -> [UInt8] {
    var record: [UInt8] = [0, 0, 0]
    record += key.map { [UInt8($0.count << 1)] + $0 } ?? [1]
    record += [UInt8(value.count << 1)] + value + [0]
    record.insert(UInt8(record.count << 1), at: 0)
    let times = big(Int64(1_700_000_000_000)) + big(Int64(1_700_000_000_000))
    let producer = big(Int64(-1)) + big(Int16(-1)) + big(Int32(-1))
    return big(attributes) + big(Int32(0)) + times + producer + big(Int32(1)) + record
  }

  private static func send(
    _ body: [UInt8], checksum: UInt32, _ brokers: String, _ topic: String, _ partition: Int32
  ) throws {
    let first = brokers.prefix { $0 != "," }
    let port = Int(first.drop { $0 != ":" }.dropFirst()) ?? 0
    let socket = try #require(TCP.connect(port: port, timeoutSeconds: 5))
    defer { close(socket) }
    let batch = big(Int32(0)) + [2] + big(checksum) + body
    let records = big(Int64(0)) + big(Int32(batch.count)) + batch
    var request = big(Int16(0)) + big(Int16(7)) + big(Int32(1)) + text("raw")
    request += big(Int16(-1)) + big(Int16(-1)) + big(Int32(5_000)) + big(Int32(1)) + text(topic)
    request += big(Int32(1)) + big(partition) + big(Int32(records.count)) + records
    try #require(TCP.write(socket, big(Int32(request.count)) + request))
    let answer = try #require(TCP.read(socket, atMost: 4_096))
    // The fields are length, correlation id, topics, name, partitions, partition and error.
    let at = 4 + 4 + 4 + 2 + topic.utf8.count + 4 + 4
    try #require(answer.count > at + 1)
    #expect(answer[at] == 0 && answer[at + 1] == 0, "\(answer)")
  }

  private static func crc32c(_ bytes: [UInt8]) -> UInt32 {
    var crc: UInt32 = ~0
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
  }

  private static func big<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  private static func text(_ text: String) -> [UInt8] {
    big(Int16(text.utf8.count)) + Array(text.utf8)
  }
}
