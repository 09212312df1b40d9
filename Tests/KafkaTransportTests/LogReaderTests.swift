import Foundation
import MeteringTestKit
import Testing

@testable import KafkaTransport

@Suite(.serialized) struct LogReaderTests {
  private let partition = TopicPartition(topic: "t", partition: 0)

  @Test func `A range is read from its start up to its end`() throws {
    let fixture = try Fixture()
    try fixture.fill(count: 100)
    let reader = try fixture.reader()
    var offsets: [Int64] = []
    let reached = try reader.read(partition, from: 10, to: 20) { record in
      offsets.append(record.offset)
      #expect(text(record.value) == "\(record.offset)")
      #expect(record.topicName == "t")
    }
    #expect(offsets == Array(10..<20))
    #expect(reached == 20)
    // The same reader reads the same partition again.
    offsets = []
    try reader.read(partition, from: 95, to: 100) { offsets.append($0.offset) }
    #expect(offsets == Array(95..<100))
    let unmoved = try reader.read(partition, from: 5, to: 5) { _ in Issue.record("empty") }
    #expect(unmoved == 5)
  }

  @Test func `A range past the end ends where the log ends`() throws {
    let fixture = try Fixture()
    try fixture.fill(count: 10)
    var count = 0
    let reached = try fixture.reader().read(partition, from: 0, to: 1_000) { _ in count += 1 }
    #expect(count == 10)
    #expect(reached == 10)
  }

  @Test func `A start outside the log is a clear error`() throws {
    let fixture = try Fixture()
    // These 8 MB cannot be compressed, and the mock cluster drops the oldest records beyond 5 MB.
    let producer = try fixture.producer([("compression.type", "none"), ("linger.ms", "0")])
    for _ in 0..<80 {
      try producer.send(partition: 0, value: String(repeating: "x", count: 100_000))
      try producer.flush(timeoutMilliseconds: 10_000)
    }
    let reader = try fixture.reader()
    let (low, high) = try reader.watermarks(partition)
    #expect(low > 0 && high == 80)
    for start in [low - 1, high + 1] {
      let error = #expect(throws: KafkaError.self) {
        try reader.read(partition, from: start, to: high + 5) { _ in }
      }
      #expect(error?.isOffsetOutOfRange == true)
      #expect(error?.description.contains("t[0]: offset \(start)") == true)
    }
    var first: Int64?
    try reader.read(partition, from: low, to: high) { first = first ?? $0.offset }
    #expect(first == low)
  }

  @Test func `Many partitions are read together with progress`() throws {
    let fixture = try Fixture(topics: [("t", 4), ("u", 1)])
    for p in 0..<4 { try fixture.fill(partition: Int32(p), count: 1_000 * (p + 1)) }
    try fixture.fill("u", count: 7)
    let ranges =
      (0..<4).map {
        LogReader.Range(
          TopicPartition(topic: "t", partition: $0), from: 1, to: 1_000 * Int64($0 + 1))
      } + [LogReader.Range(TopicPartition(topic: "u", partition: 0), from: 0, to: 7)]
    var counts: [String: Int] = [:]
    var progress: [Int64] = []
    let reached = try fixture.reader().readAll(ranges, progress: { progress.append($0) }) {
      counts["\($0.topicName)[\($0.partition)]", default: 0] += 1
    }
    #expect(counts == ["t[0]": 999, "t[1]": 1_999, "t[2]": 2_999, "t[3]": 3_999, "u[0]": 7])
    #expect(progress.last == 10_003)
    for range in ranges { #expect(reached[range.partition] == range.to) }
  }

  @Test func `An error of the body ends the read and the reader goes on`() throws {
    struct Stop: Error {}
    let fixture = try Fixture()
    try fixture.fill(count: 50)
    let reader = try fixture.reader()
    #expect(throws: Stop.self) {
      try reader.read(partition, from: 0, to: 50) { if $0.offset == 3 { throw Stop() } }
    }
    var count = 0
    try reader.read(partition, from: 0, to: 50) { _ in count += 1 }
    #expect(count == 50)
  }

  @Test func `A read that makes no progress throws`() throws {
    let fixture = try Fixture()
    // Each batch has one record, and the mock cluster answers a fetch with one batch. The broker is
    // therefore down long before the last record.
    try fixture.fill(count: 500, prefix: "", [("batch.num.messages", "1")])
    let reader = try fixture.reader(stallTimeoutMilliseconds: 500)
    var count = 0
    let error = #expect(throws: KafkaError.self) {
      try reader.read(partition, from: 0, to: 500) { _ in
        if count == 0 { try fixture.cluster.setBrokerDown() }
        count += 1
      }
    }
    #expect(error?.isTimeout == true)
    #expect(error?.detail.contains("nothing arrived for 500 ms") == true)
    #expect(count > 0 && count < 500)
    #expect(throws: KafkaError.self) {
      try reader.watermarks(partition, timeoutMilliseconds: 200)
    }
  }
}

/// Where a log ends while a producer's transaction is open.
@Suite struct OpenTransactionTests {
  private func isolation(_ configuration: KafkaConfiguration) -> String? {
    configuration.properties.last { $0.0 == "isolation.level" }?.1
  }

  @Test
  func `Code that reports lag or loss asks for the end of all records, whatever the file says`()
    throws
  {
    let path = NSTemporaryDirectory() + "kafka-\(UUID().uuidString).properties"
    try "isolation.level=read_committed\nlinger.ms=7\n".write(
      toFile: path, atomically: true, encoding: .utf8)
    for file in [nil, path] {
      let given = try KafkaConfiguration(brokers: "h:1", propertiesFile: file)
      #expect(isolation(LogReader.configuration(given, .ofAllRecords)) == "read_uncommitted")
      #expect(
        isolation(LogReader.configuration(given, .ofReadableRecords))
          == (file == nil ? nil : "read_committed"))
    }
    let tuned = LogReader.configuration(
      try KafkaConfiguration(brokers: "h:1", propertiesFile: path), .ofAllRecords)
    #expect(tuned.properties.contains { $0 == ("linger.ms", "7") })
  }

  /// The mock cluster has no transactions, so this needs `METER_TEST_KAFKA_BROKERS`.
  @Test(.enabled(if: GivenKafka.brokers != nil))
  func `On a real broker the two ends differ by what an open transaction holds`() throws {
    let brokers = try GivenKafka.required()
    let topic = GivenKafka.names.atBrokers("ends")
    let configuration = try KafkaConfiguration(brokers: brokers)
    let admin = try KafkaAdmin(configuration, clientID: "test")
    try admin.createTopic(topic, partitions: 1, replication: 1, config: [])
    defer { try? RawAdmin(brokers: brokers).deleteTopics([topic]) }  // Its name says whose it is.
    let place = TopicPartition(topic: topic, partition: 0)
    let producer = try TransactionalProducer(brokers: brokers, id: topic)
    try producer.begin()
    try producer.send(topic, count: 10)
    try producer.commit()
    try producer.begin()
    try producer.send(topic, count: 30)
    let readable = try LogReader(configuration, clientID: "test")
    let all = try LogReader(configuration, clientID: "test", ends: .ofAllRecords)
    // There are ten records and the marker of their commit.
    #expect(try readable.watermarks(place) == (0, 11))
    #expect(try all.watermarks(place) == (0, 41))
    try producer.commit()
    try eventually("the transaction is readable") { try readable.watermarks(place).high == 42 }
    #expect(try all.watermarks(place) == (0, 42))
  }
}
