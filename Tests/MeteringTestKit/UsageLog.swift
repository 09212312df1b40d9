import Foundation
package import KafkaTransport

/// The topics in a mock cluster or in a given Kafka, and what tests do with them: write records,
/// ask for the ends, and read everything.
package final class UsageLog: @unchecked Sendable {
  // All members are set once, and both the producer and the cluster are Sendable.
  package static let topic = "license.usage.v1"
  package static let validationTopic = "license.validations.v1"
  package static let deadLetterTopic = "license.dead-letter.v1"

  private let mock: MockCluster?
  private let maker: Int
  package let brokers: String
  package let partitions: Int
  /// What the brokers call the topics.
  package let names: TopicNames
  private let producer: KafkaProducer

  /// - Parameter mayBeGiven: use the Kafka of `METER_TEST_KAFKA_BROKERS` if there is one. Only one
  ///   such log is in use at a time. Making the next one creates the topics again, with `config`.
  package init(
    partitions: Int = 8, brokers: Int = 1, makesTopics: Bool = true, mayBeGiven: Bool = false,
    config: [(String, String)] = []
  ) throws {
    self.partitions = partitions
    if mayBeGiven, let given = GivenKafka.brokers {
      mock = nil
      names = GivenKafka.names
      maker = try GivenKafka.makeTopics(partitions: partitions, config: config)
      self.brokers = given
    } else {
      let cluster = try MockCluster(brokers: brokers)
      mock = cluster
      names = .plain
      maker = 0
      self.brokers = cluster.bootstrapServers
      if makesTopics {
        try cluster.createTopic(Self.topic, partitions: partitions)
        try cluster.createTopic(Self.validationTopic, partitions: partitions)
        try cluster.createTopic(Self.deadLetterTopic, partitions: 2)
      }
    }
    var configuration = try Self.configuration(self.brokers, names)
    configuration.set("reconnect.backoff.max.ms", "300")
    configuration.set("linger.ms", "5")
    producer = try KafkaProducer(configuration, clientID: "test")
  }

  deinit { if mock == nil { GivenKafka.removeTopics(of: maker) } }

  /// What the brokers call the topic of usage.
  package var nameAtBrokers: String { names.atBrokers(Self.topic) }

  /// Used for faults. A test that needs it is `mockClusterOnly`.
  package var cluster: MockCluster {
    guard let mock else { preconditionFailure("a given Kafka has no faults: mockClusterOnly") }
    return mock
  }

  package func send(
    key: String?, value: [UInt8]?, partition: Int32? = nil, headers: [(String, [UInt8])] = [],
    timestamp: Int64? = nil, topic: String = UsageLog.topic
  ) throws {
    let key = key.map { Array($0.utf8) }
    while true {
      let isQueued = try (key ?? []).withUnsafeBytes { keyBytes in
        try (value ?? []).withUnsafeBytes { valueBytes in
          try producer.produce(
            topic: topic, partition: partition, key: key == nil ? nil : keyBytes,
            value: value == nil ? nil : valueBytes, headers: headers, timestamp: timestamp)
        }
      }
      if isQueued { break }
      producer.poll(timeoutMilliseconds: 100)
    }
    producer.poll(timeoutMilliseconds: 0)
  }

  package func send(_ event: UsageEventText, partition: Int32? = nil) throws {
    try send(key: event.subject, value: Array(event.json().utf8), partition: partition)
  }

  /// Waits until everything is stored.
  package func flush() throws { try producer.flush(timeoutMilliseconds: 60_000) }

  private func reader() throws -> LogReader {
    try LogReader(Self.configuration(brokers, names), clientID: "test")
  }

  private static func configuration(
    _ brokers: String, _ names: TopicNames
  ) throws -> KafkaConfiguration {
    var made = try KafkaConfiguration(brokers: brokers)
    made.name(with: names)
    return made
  }

  /// The end of every partition's log.
  package func ends(_ topic: String = UsageLog.topic) throws -> [Int64] {
    let reader = try reader()
    return try (0..<(try reader.partitionCount(topic) ?? 0)).map {
      try reader.watermarks(TopicPartition(topic: topic, partition: Int32($0))).high
    }
  }

  /// Reads every record of the topic, each partition in order.
  package func readAll(_ topic: String = UsageLog.topic, _ body: (RecordView) throws -> Void) throws
  {
    let ends = try ends(topic)
    try reader().readAll(
      ends.enumerated().map {
        .init(TopicPartition(topic: topic, partition: Int32($0.offset)), from: 0, to: $0.element)
      }, body)
  }

  /// Waits until the group has stored every record that is in the log now.
  package func waitUntilCounted(
    _ database: TestDatabase, by group: String = "usage-aggregator",
    topic: String = UsageLog.topic, within seconds: Double = 60
  ) throws {
    try flush()
    let ends = try ends(topic)
    var last = "nothing stored"
    try eventually("offsets at \(ends), but \(last)", within: seconds) {
      guard
        let rows = database.rowsIfReachable(
          "select partition, next_offset from consumer_offset where topic = '\(topic)' and consumer_group = '\(group)'"
        )
      else { return false }
      var next: [Int64] = Array(repeating: 0, count: ends.count)
      for row in rows {
        if let p = Int(row[0] ?? ""), p < next.count { next[p] = Int64(row[1] ?? "") ?? 0 }
      }
      last = "\(next)"
      return zip(next, ends).allSatisfy { $0 >= $1 }
    }
  }
}
