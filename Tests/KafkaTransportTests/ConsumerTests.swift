import KafkaTransport
import MeteringTestKit
import Testing

/// The tests run one at a time, because each has its own cluster and blocks a thread of the pool.
@Suite(.serialized) struct ConsumerTests {
  @Test func `Owners come and go, and every record reaches the current owner once`() throws {
    let partitions = 6
    let fixture = try Fixture(topics: [("t", partitions)])
    let producer = try fixture.producer([("linger.ms", "1")])
    let store = Driver.Store()
    var sent: Int64 = 0
    var drivers: [Driver] = []

    func join() throws {
      drivers.append(try Driver(fixture.consumer(), ["t"], store))
    }
    func turnAll() throws {
      for _ in 0..<20 {
        try producer.send(partition: Int32(sent % Int64(partitions)), value: "\(sent)")
        sent += 1
      }
      producer.poll(timeoutMilliseconds: 0)
      for driver in drivers { try driver.turn() }
    }
    func isShared() -> Bool {
      drivers.allSatisfy { !$0.owned.isEmpty && $0.owned.count <= partitions / drivers.count + 1 }
        && drivers.map(\.owned.count).reduce(0, +) == partitions
        && drivers.reduce(into: Set<TopicPartition>()) { $0.formUnion($1.owned) }.count
          == partitions
    }

    try join()
    try until("the first owns all", turn: turnAll, isShared)
    try join()
    try until("two share", turn: turnAll, isShared)
    drivers.removeFirst().consumer.close()
    try until("the second owns all", turn: turnAll, isShared)
    try join()
    try join()
    try until("three share", turn: turnAll, isShared)
    drivers.removeLast().consumer.close()
    try until("two share again", turn: turnAll, isShared)

    try producer.flush(timeoutMilliseconds: 10_000)
    try until("all are read", turn: { for driver in drivers { try driver.turn() } }) {
      store.total >= sent
    }
    print("rereads: \(drivers.map(\.consumer.rereads)) over \(sent) records")
    #expect(store.total == sent)
    #expect(store.strays == [])
    #expect(store.disorder == [])
    #expect(store.errors == [])
    for driver in drivers { #expect(driver.consumer.assignment == driver.owned) }
    for driver in drivers { driver.consumer.close() }
  }

  @Test
  func `A member that tells Kafka its offsets all the time loses nothing when others join`() throws
  {
    let partitions = 4
    let fixture = try Fixture(topics: [("t", partitions)])
    try fixture.fill(count: 10)
    let store = Driver.Store()
    // The mock cluster lets a join of an existing group take a second less than the session.
    let brief = [("session.timeout.ms", "2500"), ("heartbeat.interval.ms", "100")]
    var drivers: [Driver] = []
    func turnAll() throws {
      for driver in drivers {
        try driver.turn()
        driver.consumer.commitAsync(driver.owned.map { ($0, store.next[$0] ?? 0) })
      }
    }
    func isShared() -> Bool {
      drivers.map(\.owned.count).reduce(0, +) == partitions
        && drivers.allSatisfy { $0.owned.count == partitions / drivers.count }
    }
    drivers.append(try Driver(fixture.consumer("g", brief), ["t"], store))
    try until("the first owns all", turn: turnAll, isShared)
    drivers.append(try Driver(fixture.consumer("g", brief), ["t"], store))
    try until("two share", seconds: 30, turn: turnAll, isShared)
    #expect(drivers.map(\.lostTimes) == [0, 0])
    // The offset is committed to Kafka nevertheless.
    try until("Kafka knows", seconds: 10, turn: turnAll) {
      let told = try? GroupOffsets.committed(
        brokers: fixture.cluster.bootstrapServers, group: "g", topic: "t", partition: 0)
      return told == 10
    }
    for driver in drivers { driver.consumer.close() }
  }

  @Test func `Every message of a long log is read`() throws {
    let fixture = try Fixture(topics: [("t", 8)])
    let total = 200_000
    let producer = try fixture.producer()
    let value = String(repeating: "{\"specversion\":\"1.0\"}", count: 12)
    let clock = ContinuousClock()
    let produced = try clock.measure {
      for i in 0..<total { try producer.send(partition: Int32(i % 8), key: "k\(i)", value: value) }
    }
    try producer.flush(timeoutMilliseconds: 60_000)

    let consumer = try fixture.consumer()
    let batch = MessageBatch(capacity: 1_000)
    try consumer.subscribe(["t"])
    var count = 0
    var bytes = 0
    var first: ContinuousClock.Instant?
    var inConsume = Duration.zero
    try until(
      "all are read",
      turn: {
        let before = clock.now
        let filled = try consumer.consume(into: batch, timeoutMilliseconds: 20)
        if filled == 1_000 { inConsume += clock.now - before }
        for i in 0..<filled where batch.kind(i) == .record {
          if first == nil { first = before }
          let record = batch.record(i)
          bytes += record.value!.count
          count += 1
        }
        batch.recycle()
        while case .assigned(let partitions)? = consumer.takeRebalance() {
          try consumer.assign(partitions.map { ($0, 0) })
        }
      }
    ) { count >= total }
    let elapsed = clock.now - first!
    #expect(count == total)
    #expect(bytes == total * value.utf8.count)
    print(
      "produce \(produced / total) a message; consume \(elapsed / total) a message in all,",
      "\(inConsume / total) in full consume calls")
    consumer.close()
  }

  @Test func `Tombstones, null keys, empty values and headers arrive as they were sent`() throws {
    let fixture = try Fixture()
    let producer = try fixture.producer()
    try producer.send(key: nil, value: "plain", timestamp: 1_700_000_000_123)
    try producer.send(key: "k", value: nil)
    try producer.send(key: "", value: "")
    try producer.send(
      key: "k", value: "v", headers: [("h", [1]), ("empty", []), ("h", [2, 0, 3])])
    try producer.flush(timeoutMilliseconds: 10_000)

    let consumer = try fixture.consumer()
    try consumer.subscribe(["t"])
    let batch = MessageBatch(capacity: 5)
    try consumer.awaitAssignment(batch)
    try until(
      "four and the end", turn: { try consumer.consume(into: batch, timeoutMilliseconds: 5_000) }
    ) { batch.count == 5 }

    #expect(batch.key(0) == nil)
    #expect(text(batch.value(0)) == "plain")
    #expect(batch.timestamp(0) == 1_700_000_000_123)
    #expect(batch.topicName(0) == "t")
    #expect(batch.header(0, named: "h") == nil)
    #expect(batch.value(1) == nil)
    #expect(text(batch.key(1)) == "k")
    #expect(batch.kind(1) == .record)
    #expect(batch.key(2)?.count == 0)
    #expect(batch.value(2)?.count == 0)
    #expect(batch.header(3, named: "h") == [2, 0, 3])
    #expect(batch.header(3, named: "empty") == [])
    #expect(batch.record(3).headers.map(\.name) == ["h", "empty", "h"])
    #expect((0..<4).map { batch.offset($0) } == [0, 1, 2, 3])
    #expect(batch.topicIdentity(0) == batch.topicIdentity(3))
    #expect(batch.kind(4) == .endOfPartition)
    #expect(batch.offset(4) == 4)
    #expect(batch.error(4) == nil)
    #expect(consumer.cachedHighWatermark(TopicPartition(topic: "t", partition: 0)) == 4)
    let (low, high) = try consumer.watermarks(
      TopicPartition(topic: "t", partition: 0), timeoutMilliseconds: 5_000)
    #expect(low == 0)
    #expect(high == 4)
  }

  @Test func `The end of a partition is reported each time it is reached`() throws {
    let fixture = try Fixture()
    let store = Driver.Store()
    let driver = try Driver(fixture.consumer(), ["t"], store)
    let partition = TopicPartition(topic: "t", partition: 0)
    try until("the end of nothing", turn: { try driver.turn() }) { store.ends[partition] == 0 }
    try fixture.fill(count: 3)
    try until("the end of three", turn: { try driver.turn() }) { store.ends[partition] == 3 }
    #expect(store.next[partition] == 3)
    driver.consumer.close()
  }

  @Test func `A start outside of the log is an error of that partition alone`() throws {
    let fixture = try Fixture(topics: [("t", 2)])
    try fixture.fill(partition: 0, count: 3)
    try fixture.fill(partition: 1, count: 3)
    let store = Driver.Store()
    store.next[TopicPartition(topic: "t", partition: 0)] = 99
    let driver = try Driver(fixture.consumer(), ["t"], store)
    let good = TopicPartition(topic: "t", partition: 1)
    try until("an error and three records", turn: { try driver.turn() }) {
      !store.errors.isEmpty && store.next[good] == 3
    }
    #expect(store.errors.allSatisfy { $0.isOffsetOutOfRange })
    #expect(store.errors.first?.description.contains("t[0]") == true)
    #expect(store.next[TopicPartition(topic: "t", partition: 0)] == 99)

    // The remedy is to unassign the partition and assign it again at another offset, outside any
    // rebalance.
    let bad = TopicPartition(topic: "t", partition: 0)
    try driver.consumer.unassign([bad])
    store.next[bad] = 0
    try driver.consumer.assign([(bad, 0)])
    try until("read after the remedy", turn: { try driver.turn() }) { store.next[bad] == 3 }
    try fixture.fill(partition: 1, count: 2)
    try until("the other goes on", turn: { try driver.turn() }) { store.next[good] == 5 }
    driver.consumer.close()
  }

  @Test func `A partition left out of the assignment hangs no later rebalance`() throws {
    let fixture = try Fixture(topics: [("t", 2)])
    let consumer = try fixture.consumer()
    let batch = MessageBatch(capacity: 100)
    try consumer.subscribe(["t"])
    let skipped = TopicPartition(topic: "t", partition: 0)
    var isAssigned = false
    var isRevoked = false
    func turn() throws {
      _ = try consumer.consume(into: batch, timeoutMilliseconds: 10)
      while let rebalance = consumer.takeRebalance() {
        switch rebalance {
        case .assigned(let partitions):
          isAssigned = true
          try consumer.assign(partitions.filter { $0 != skipped }.map { ($0, 0) })
        case .revoked(let partitions, _):
          isRevoked = true
          try consumer.unassign(partitions)
        }
      }
    }
    try until("assigned", turn: turn) { isAssigned }
    #expect(!consumer.assignment.contains(skipped))
    consumer.unsubscribe()
    try until("revoked", turn: turn) { isRevoked }
    isAssigned = false
    try consumer.subscribe(["t"])
    try until("assigned again after leaving", turn: turn) { isAssigned }
    consumer.close()
  }

  @Test func `Brokers that are down for a while lose nothing`() throws {
    let fixture = try Fixture(topics: [("t", 2)])
    let store = Driver.Store()
    let driver = try Driver(fixture.consumer(), ["t"], store)
    try fixture.fill(count: 5)
    try until("the first five", turn: { try driver.turn() }) { store.total == 5 }
    try fixture.cluster.setBrokerDown()
    var errors: [KafkaError] = []
    try until(
      "told of it",
      turn: {
        try driver.turn()
        errors += driver.consumer.takeErrors()
      }
    ) { !errors.isEmpty }
    #expect(errors.allSatisfy { $0.isRetriable && !$0.isFatal })
    try fixture.cluster.setBrokerUp()
    try fixture.fill(count: 5)
    try until("the next five", turn: { try driver.turn() }) { store.total == 10 }
    #expect(store.disorder == [])
    driver.consumer.close()
  }

  @Test func `A topic that appears later is found`() throws {
    let fixture = try Fixture(topics: [("there", 1)])
    let store = Driver.Store()
    let driver = try Driver(fixture.consumer(), ["there", "later"], store)
    try until("the one that is there", turn: { try driver.turn() }) { !driver.owned.isEmpty }
    if try driver.consumer.partitionCount("later", timeoutMilliseconds: 5_000) == nil {
      try fixture.cluster.createTopic("later", partitions: 3)
    }
    try until("the other one", seconds: 30, turn: { try driver.turn() }) {
      driver.owned.contains { $0.topic == "later" }
    }
    #expect(try driver.consumer.partitionCount("never", timeoutMilliseconds: 5_000) == nil)
    #expect(try driver.consumer.partitionCount("never", timeoutMilliseconds: 5_000) == nil)
    driver.consumer.close()
  }

  @Test func `A wake ends the wait`() throws {
    let fixture = try Fixture()
    let consumer = try fixture.consumer()
    let batch = MessageBatch(capacity: 3)
    consumer.waker.wake()
    let clock = ContinuousClock()
    let start = clock.now
    let count = try consumer.consume(into: batch, timeoutMilliseconds: 60_000)
    #expect(count == 0)
    #expect(start.duration(to: clock.now) < .seconds(30))
    let waker = consumer.waker
    consumer.close()
    waker.wake()
  }

  @Test func `The eager protocol works too`() throws {
    let fixture = try Fixture(topics: [("t", 4)])
    try fixture.fill(count: 4)
    let store = Driver.Store()
    let properties = [("partition.assignment.strategy", "range")]
    let first = try Driver(fixture.consumer("g", properties), ["t"], store)
    try until("first", turn: { try first.turn() }) { first.owned.count == 4 && store.total == 4 }
    let second = try Driver(fixture.consumer("g", properties), ["t"], store)
    try until(
      "shared",
      turn: {
        try first.turn()
        try second.turn()
      }
    ) { first.owned.count == 2 && second.owned.count == 2 }
    #expect(store.strays == [])
    first.consumer.close()
    second.consumer.close()
  }

  /// Answers rebalances until partition 0 is assigned from the start.
}
