import Testing

@testable import KafkaTransport

/// The mock cluster has no gaps of its own, so librdkafka's position is set apart from ours.
@Suite(.serialized) struct ContinuityTests {
  private let partition = TopicPartition(topic: "t", partition: 0)

  /// A consumer that is owed offset 3 while librdkafka goes on at 5.
  private func consumerThatSkips(_ fixture: Fixture) throws -> (KafkaConsumer, MessageBatch) {
    try fixture.fill(count: 10)
    let consumer = try fixture.consumer()
    let batch = MessageBatch(capacity: 100)
    try consumer.subscribe(["t"])
    var isAssigned = false
    func turn() throws {
      _ = try consumer.consume(into: batch, timeoutMilliseconds: 10)
      while case .assigned(let partitions)? = consumer.takeRebalance() {
        try consumer.assign(partitions.map { ($0, 5) })
        isAssigned = true
      }
    }
    try until("assigned", turn: turn) { isAssigned }
    consumer.positions[partition] = 3
    return (consumer, batch)
  }

  private func offsets(_ consumer: KafkaConsumer, _ batch: MessageBatch) throws -> [Int64] {
    var offsets: [Int64] = []
    func turn() throws {
      let count = try consumer.consume(into: batch, timeoutMilliseconds: 50)
      for i in 0..<count where batch.kind(i) == .record { offsets.append(batch.offset(i)) }
    }
    try until("the last record", turn: turn) { offsets.last == 9 }
    return offsets
  }

  @Test func `Records that were skipped are read again`() throws {
    let fixture = try Fixture()
    let (consumer, batch) = try consumerThatSkips(fixture)
    let read = try offsets(consumer, batch)
    #expect(read == Array(3..<10))
    #expect(consumer.rereads == 1)
    consumer.close()
    withExtendedLifetime(fixture) {}
  }

  @Test func `A gap that appears again is real`() throws {
    let fixture = try Fixture()
    let (consumer, batch) = try consumerThatSkips(fixture)
    consumer.continuity.suspects[partition] = 5
    let read = try offsets(consumer, batch)
    #expect(read == Array(5..<10))
    #expect(consumer.rereads == 0)
    #expect(consumer.continuity.realGaps == 1)
    consumer.close()
    withExtendedLifetime(fixture) {}
  }

  @Test func `Records that were delivered are not delivered again`() throws {
    let fixture = try Fixture()
    let (consumer, batch) = try consumerThatSkips(fixture)
    consumer.positions[partition] = 8
    let read = try offsets(consumer, batch)
    #expect(read == [8, 9])
    consumer.close()
    withExtendedLifetime(fixture) {}
  }
}
