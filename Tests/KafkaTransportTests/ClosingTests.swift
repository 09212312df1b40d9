import Testing

@testable import KafkaTransport

/// The tests run one at a time, because each has its own cluster and blocks a thread of the pool.
@Suite(.serialized) struct ClosingTests {
  @Test func `Closing answers a rebalance that nobody answered`() throws {
    let fixture = try Fixture()
    for takes in [true, false] {
      let consumer = try fixture.consumer("g\(takes)")
      let batch = MessageBatch(capacity: 10)
      try consumer.subscribe(["t"])
      if takes {
        var isTaken = false
        try until(
          "assigned",
          turn: {
            _ = try consumer.consume(into: batch, timeoutMilliseconds: 10)
            if consumer.takeRebalance() != nil { isTaken = true }
          }
        ) { isTaken }
      } else {
        // This is long enough for the assignment to be recorded or to be on its way.
        _ = try consumer.consume(into: batch, timeoutMilliseconds: 4_000)
      }
      consumer.close()
      consumer.close()
    }
  }

  @Test func `Closing works while the brokers are down and messages are held`() throws {
    let fixture = try Fixture()
    try fixture.fill(count: 3)
    let batch = MessageBatch(capacity: 3)
    do {
      let consumer = try fixture.consumer()
      try consumer.subscribe(["t"])
      try consumer.awaitAssignment(batch)
      try until("three", turn: { try consumer.consume(into: batch, timeoutMilliseconds: 5_000) }) {
        batch.count == 3
      }
      try fixture.cluster.setBrokerDown()
      consumer.close()
    }
    // The batch keeps the client alive, so the bytes are still there.
    #expect(text(batch.value(2)) == "2")
    batch.recycle()
    #expect(batch.count == 0)
  }

  @Test func `Closing answers a rebalance that waits for its delivery before it ends the client`()
    throws
  {
    let fixture = try Fixture(topics: [("t", 4)])
    let brief = [("session.timeout.ms", "2500"), ("heartbeat.interval.ms", "100")]
    let store = Driver.Store()
    let first = try Driver(fixture.consumer("g", brief), ["t"], store)
    try until("the first owns all", turn: { try first.turn() }) { first.owned.count == 4 }
    let second = try Driver(fixture.consumer("g", brief), ["t"], store)
    // The same answer of the group tells the first that two of its partitions must go. It does not
    // look.
    try until("the second joined", turn: { try second.turn() }) { second.assignedTimes > 0 }
    first.consumer.close()
    // An answer within `rd_kafka_consumer_close` is lost only if the machine is slow, so that the
    // hang itself cannot be tested.
    #expect(first.consumer.handle.callbacks.answersWhileEnding == 0)
    try until("the second owns all", turn: { try second.turn() }) { second.owned.count == 4 }
    second.consumer.close()
    #expect(second.consumer.handle.callbacks.answersWhileEnding == 0)
  }
}
