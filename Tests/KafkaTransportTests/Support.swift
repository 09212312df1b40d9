import KafkaTransport
import Testing

/// A mock cluster and what the tests do with it. One thread uses it.
struct Fixture {
  let cluster: MockCluster

  init(topics: [(String, Int)] = [("t", 1)], brokers: Int = 1) throws {
    cluster = try MockCluster(brokers: brokers)
    for (name, partitions) in topics { try cluster.createTopic(name, partitions: partitions) }
  }

  func configuration(_ properties: [(String, String)] = []) throws -> KafkaConfiguration {
    var made = try KafkaConfiguration(brokers: cluster.bootstrapServers)
    for (key, value) in properties { made.set(key, value) }
    return made
  }

  func producer(
    _ properties: [(String, String)] = [],
    onDelivery: KafkaProducer.DeliveryHandler? = nil
  ) throws -> KafkaProducer {
    try KafkaProducer(configuration(properties), clientID: "test", onDelivery: onDelivery)
  }

  func consumer(
    _ group: String = "g", _ properties: [(String, String)] = []
  ) throws -> KafkaConsumer {
    try KafkaConsumer(configuration(properties), group: group, clientID: "test")
  }

  func reader(stallTimeoutMilliseconds: Int32 = 20_000) throws -> LogReader {
    try LogReader(
      configuration(), clientID: "test", stallTimeoutMilliseconds: stallTimeoutMilliseconds)
  }

  /// Writes values `<prefix><i>` to one partition and waits until they are stored.
  func fill(
    _ topic: String = "t", partition: Int32 = 0, count: Int, prefix: String = "",
    _ properties: [(String, String)] = []
  ) throws {
    let producer = try producer(properties)
    for i in 0..<count {
      try producer.send(topic, partition: partition, key: "k", value: "\(prefix)\(i)")
    }
    try producer.flush(timeoutMilliseconds: 30_000)
  }
}

extension KafkaProducer {
  /// Waits while the queue is full.
  func send(
    _ topic: String = "t", partition: Int32? = nil, key: String? = nil, value: String? = nil,
    headers: [(String, [UInt8])] = [], timestamp: Int64? = nil, opaque: UInt = 0
  ) throws {
    let key = key.map { Array($0.utf8) }
    let value = value.map { Array($0.utf8) }
    while true {
      let isQueued = try (key ?? []).withUnsafeBytes { keyBytes in
        try (value ?? []).withUnsafeBytes { valueBytes in
          try produce(
            topic: topic, partition: partition, key: key == nil ? nil : keyBytes,
            value: value == nil ? nil : valueBytes, headers: headers, timestamp: timestamp,
            opaque: opaque)
        }
      }
      if isQueued { return }
      poll(timeoutMilliseconds: 100)
    }
  }
}

extension KafkaConsumer {
  /// Consumes until the group assigned partitions, and reads them from their beginning.
  func awaitAssignment(_ batch: MessageBatch) throws {
    var isAssigned = false
    try until(
      "assigned",
      turn: {
        _ = try consume(into: batch, timeoutMilliseconds: 10)
        while case .assigned(let partitions)? = takeRebalance() {
          try assign(partitions.map { ($0, 0) })
          isAssigned = true
        }
      }
    ) { isAssigned }
  }
}

/// A consumer, driven as a service drives it: first the batch, then rebalances. The positions are
/// in its own store.
final class Driver {
  let consumer: KafkaConsumer
  let batch = MessageBatch(capacity: 1_000)
  private(set) var owned: Set<TopicPartition> = []
  private(set) var assignedTimes = 0
  /// How often another member was said to own its partitions already.
  private(set) var lostTimes = 0
  let store: Store

  init(_ consumer: KafkaConsumer, _ topics: [String], _ store: Store) throws {
    self.consumer = consumer
    self.store = store
    try consumer.subscribe(topics)
  }

  /// One turn of the loop.
  func turn(timeoutMilliseconds: Int32 = 10) throws {
    let count = try consumer.consume(into: batch, timeoutMilliseconds: timeoutMilliseconds)
    for i in 0..<count {
      switch batch.kind(i) {
      case .record:
        let partition = batch.topicPartition(i)
        if !owned.contains(partition) { store.strays.append("\(partition) \(batch.offset(i))") }
        store.see(partition, batch.offset(i))
      case .endOfPartition: store.ends[batch.topicPartition(i)] = batch.offset(i)
      case .error: store.errors.append(batch.error(i)!)
      }
    }
    batch.recycle()
    while let rebalance = consumer.takeRebalance() {
      switch rebalance {
      case .assigned(let partitions):
        assignedTimes += 1
        owned.formUnion(partitions)
        try consumer.assign(partitions.map { ($0, store.next[$0] ?? 0) })
      case .revoked(let partitions, let isLost):
        if isLost { lostTimes += 1 }
        owned.subtract(partitions)
        try consumer.unassign(partitions)
      }
    }
  }

  /// Plays the role of PostgreSQL in the services.
  final class Store {
    var next: [TopicPartition: Int64] = [:]
    var ends: [TopicPartition: Int64] = [:]
    var errors: [KafkaError] = []
    /// Records of partitions that the consumer did not own.
    var strays: [String] = []
    /// Records with an unexpected offset: after a gap, or seen twice.
    var disorder: [String] = []

    func see(_ partition: TopicPartition, _ offset: Int64) {
      let awaited = next[partition] ?? 0
      if offset != awaited { disorder.append("\(partition): \(offset), awaited \(awaited)") }
      next[partition] = offset + 1
    }

    var total: Int64 { next.values.reduce(0, +) }
  }
}

/// Turns until the condition holds. The turns wait in librdkafka for the event itself.
func until(
  _ what: Comment, seconds: Int = 60, sourceLocation: SourceLocation = #_sourceLocation,
  turn: () throws -> Void, _ condition: () -> Bool
) throws {
  let clock = ContinuousClock()
  let deadline = clock.now.advanced(by: .seconds(seconds))
  while !condition() {
    try #require(clock.now < deadline, what, sourceLocation: sourceLocation)
    try turn()
  }
}

func text(_ bytes: UnsafeRawBufferPointer?) -> String? {
  bytes.map { String(decoding: $0, as: UTF8.self) }
}
