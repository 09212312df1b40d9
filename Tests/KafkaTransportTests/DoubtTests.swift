import MeteringTestKit
import Testing

@testable import KafkaTransport

@Suite struct DoubtTests {
  @Test func `A partition that a broker does not serve is doubted`() {
    let doubt = DoubtCollector.doubt(
      facility: "BROKERUA",
      line: "license.usage.v1 [13]: broker unavailable: fetch: Broker: Unknown topic or partition")
    #expect(
      doubt
        == LogDoubts(partitions: [TopicPartition(topic: "license.usage.v1", partition: 13)]))
  }

  @Test
  func
    `A topic that was away puts all partitions in doubt, but finding a new one does not`()
  {
    #expect(
      DoubtCollector.doubt(facility: "STATE", line: "Topic t changed state exists -> notexists")
        == LogDoubts(concernsAll: true))
    #expect(
      DoubtCollector.doubt(facility: "STATE", line: "Topic t changed state unknown -> exists")
        == nil)
  }

  @Test(arguments: ["", "[thrd:main]: ", "[thrd:[::1]:9092/1]: "])
  func `A line means the same whatever thread wrote it`(thread: String) {
    let doubts = DoubtCollector(.plain)
    doubts.read(
      facility: "BROKERUA",
      line: thread + "t [0]: broker unavailable: fetch: Broker: Unknown topic or partition")
    #expect(
      doubts.take() == LogDoubts(partitions: [TopicPartition(topic: "t", partition: 0)]))
    doubts.read(facility: "STATE", line: thread + "Topic t changed state exists -> notexists")
    #expect(doubts.take() == LogDoubts(concernsAll: true))
  }

  @Test
  func `A broker that is connected again puts all partitions in doubt, but not the first time`() {
    let doubts = DoubtCollector(.plain)
    let line = "127.0.0.1:9092/1: Broker changed state APIVERSION_QUERY -> UP"
    doubts.read(facility: "STATE", line: line)
    #expect(doubts.take().isEmpty)
    doubts.read(facility: "STATE", line: line)
    #expect(doubts.take() == LogDoubts(concernsAll: true))
    #expect(doubts.take().isEmpty)
    for other in [
      "127.0.0.1:9092/bootstrap: Broker changed state CONNECT -> UP",
      "GroupCoordinator: Broker changed state CONNECT -> UP",
      "127.0.0.1:9092/1: Broker changed state UP -> DOWN",
    ] {
      doubts.read(facility: "STATE", line: other)
      doubts.read(facility: "STATE", line: other)
      #expect(doubts.take().isEmpty, "\(other)")
    }
  }

  @Test func `A fetch that is refused for its topic is a doubt before anything else arrives`()
    throws
  {
    let fixture = try Fixture()
    let store = Driver.Store()
    let driver = try Driver(fixture.consumer(), ["t"], store)
    try fixture.fill(count: 3)
    try until("three", turn: { try driver.turn() }) { store.total == 3 }
    _ = driver.consumer.takeDoubts()
    // Error 3 is UNKNOWN_TOPIC_OR_PART.
    fixture.cluster.pushRequestErrors(apiKey: .fetch, [3])
    // A broker that is connected again is a separate doubt, and may come first.
    var partitions: Set<TopicPartition> = []
    try until(
      "a doubt about the partition",
      turn: {
        try driver.turn()
        partitions.formUnion(driver.consumer.takeDoubts().partitions)
      }
    ) { !partitions.isEmpty }
    #expect(partitions == [TopicPartition(topic: "t", partition: 0)])
    driver.consumer.close()
  }
}

@Suite(.serialized) struct LogEndsTests {
  @Test func `Partitions without a leader are told apart from those that answer`() throws {
    let fixture = try Fixture(topics: [("t", 4)])
    for partition in 0..<4 {
      try fixture.fill(partition: Int32(partition), count: partition + 1)
    }
    try fixture.cluster.setLeader(TopicPartition(topic: "t", partition: 2), broker: nil)
    let all = (0..<4).map { TopicPartition(topic: "t", partition: Int32($0)) }
    let ends = try fixture.reader().watermarks(of: all, timeoutMilliseconds: 3_000)
    for partition in [0, 1, 3] {
      #expect(try ends[all[partition]]?.get() == LogEnds(low: 0, high: Int64(partition) + 1))
    }
    guard case .failure(let error)? = ends[all[2]] else {
      Issue.record("partition 2 has no leader, but it answered")
      return
    }
    #expect(error.isRetriable)
  }

  @Test func `A client that is refused reports that, and not a broker that is away`() throws {
    let fixture = try Fixture()
    let reader = try LogReader(
      fixture.configuration([("security.protocol", "ssl")]), clientID: "test")
    // librdkafka reports the refusal separately from the call, which on a busy machine ends before
    // it.
    var refusal: KafkaError?
    try eventually("the refusal is reported") {
      do throws(KafkaError) {
        _ = try reader.partitionCount("t", timeoutMilliseconds: 4_000)
        Issue.record("a broker without TLS answered")
        return true
      } catch {
        refusal = error
        return error.isAccessRefused
      }
    }
    #expect(refusal?.description.contains("SSL") == true, "\(String(describing: refusal))")
    withExtendedLifetime(fixture) {}
  }
}
