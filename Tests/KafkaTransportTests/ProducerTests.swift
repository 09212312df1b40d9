import KafkaTransport
import MeteringTestKit
import Synchronization
import Testing

@Suite(.serialized) struct ProducerTests {
  @Test func `Every record is reported once with its opaque and offset`() throws {
    let fixture = try Fixture()
    let reports = Reports()
    let producer = try fixture.producer { reports.append($0) }
    for i in 0..<100 { try producer.send(partition: 0, value: "\(i)", opaque: UInt(i)) }
    try producer.flush(timeoutMilliseconds: 10_000)
    #expect(producer.queued == 0)
    #expect(reports.all.map(\.opaque) == (0..<100).map { UInt($0) })
    #expect(reports.all.map(\.offset) == (0..<100).map { Int64($0) })
    #expect(reports.all.allSatisfy { $0.error == nil && $0.partition == 0 })
  }

  @Test func `A full queue says false and keeps the record out`() throws {
    let fixture = try Fixture()
    try fixture.cluster.setBrokerDown()
    let producer = try fixture.producer([
      ("queue.buffering.max.messages", "2"), ("linger.ms", "0"),
    ])
    #expect(try producer.produce(topic: "t", key: nil, value: nil))
    #expect(try producer.produce(topic: "t", key: nil, value: nil, headers: [("h", [1])]))
    #expect(try !producer.produce(topic: "t", key: nil, value: nil, headers: [("h", [1])]))
    // `queued` also includes what was not served yet, such as the news that the broker is down.
    try eventually("only the two records are queued") {
      producer.poll(timeoutMilliseconds: 0)
      return producer.queued == 2
    }
    let error = #expect(throws: KafkaError.self) { try producer.flush(timeoutMilliseconds: 50) }
    #expect(error?.isTimeout == true)
    try fixture.cluster.setBrokerUp()
    try producer.flush(timeoutMilliseconds: 30_000)
    #expect(
      try fixture.reader().watermarks(TopicPartition(topic: "t", partition: 0)).high == 2)
  }

  @Test func `A producer that cannot deliver is freed immediately`() throws {
    let fixture = try Fixture()
    try fixture.cluster.setBrokerDown()
    do {
      let producer = try fixture.producer()
      try producer.send(value: "lost")
    }
  }

  @Test func `A record that is too large is refused at the call`() throws {
    let fixture = try Fixture()
    let producer = try fixture.producer()
    let error = #expect(throws: KafkaError.self) {
      try producer.send(value: String(repeating: "x", count: 2_000_000))
    }
    #expect(error?.operation == "produce")
    #expect(error?.isRetriable == false)
  }

  @Test func `Keys are spread as in Java`() throws {
    // These are Kafka's own test vectors of murmur2: "21" -> -973932308, "foobar" -> -790332482.
    // They are masked to positive, modulo the partition count.
    let fixture = try Fixture(topics: [("t", 64)])
    let reports = Reports()
    let producer = try fixture.producer { reports.append($0) }
    for (i, key) in ["21", "foobar", "a-little-bit-long-string"].enumerated() {
      try producer.send(key: key, value: "", opaque: UInt(i))
    }
    try producer.flush(timeoutMilliseconds: 10_000)
    let hashes: [Int32] = [-973_932_308, -790_332_482, -985_981_536]
    for report in reports.all {
      #expect(report.partition == (hashes[Int(report.opaque)] & 0x7fff_ffff) % 64)
    }
    #expect(reports.all.count == 3)
  }

  @Test func `Transient broker errors are tried again`() throws {
    let fixture = try Fixture()
    let reports = Reports()
    let producer = try fixture.producer { reports.append($0) }
    // The errors are NOT_ENOUGH_REPLICAS, then LEADER_NOT_AVAILABLE.
    fixture.cluster.pushRequestErrors(apiKey: .produce, [19, 5])
    try producer.send(partition: 0, value: "v")
    try producer.flush(timeoutMilliseconds: 30_000)
    #expect(reports.all.count == 1)
    #expect(reports.all.first?.error == nil)
  }

  @Test func `Producing costs little`() throws {
    let fixture = try Fixture(topics: [("t", 8)])
    let producer = try fixture.producer()
    let bytes = [UInt8](repeating: 7, count: 250)
    let clock = ContinuousClock()
    let count = 200_000
    let elapsed = try clock.measure {
      for i in 0..<count {
        try bytes.withUnsafeBytes { value in
          let key = UnsafeRawBufferPointer(rebasing: value.prefix(10))
          while try !producer.produce(
            topic: "t", partition: Int32(i & 7), key: key, value: value, opaque: UInt(i))
          {
            producer.poll(timeoutMilliseconds: 1)
          }
        }
      }
    }
    print("produce: \(elapsed / count) a message")
    try producer.flush(timeoutMilliseconds: 60_000)
  }

  /// `flush` calls the handler on the test's thread. The lock is only there for the compiler's
  /// proof.
  private final class Reports: Sendable {
    private let list = Mutex<[KafkaProducer.Delivery]>([])
    var all: [KafkaProducer.Delivery] { list.withLock { $0 } }
    func append(_ delivery: KafkaProducer.Delivery) { list.withLock { $0.append(delivery) } }
  }
}
