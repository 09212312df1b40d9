import Foundation
import KafkaTransport
import Testing

@Suite(.serialized) struct AdminTests {
  @Test func `The mock cluster describes topics without their config`() throws {
    let fixture = try Fixture(topics: [("t", 5)])
    let admin = try KafkaAdmin(fixture.configuration(), clientID: "test")
    let described = try admin.describeTopic("t")
    #expect(described?.partitions == 5)
    #expect(described?.replication == 1)
    #expect(described?.config == nil)
    #expect(try admin.describeTopic("missing") == nil)
    #expect(try admin.partitionCount("missing") == nil)
  }

  @Test func `Requests that the mock cluster does not support are recognizable`() throws {
    let fixture = try Fixture()
    let admin = try KafkaAdmin(
      fixture.configuration(), clientID: "test", timeoutMilliseconds: 5_000)
    let created = #expect(throws: KafkaError.self) {
      try admin.createTopic("new", partitions: 3, replication: 1, config: [("a", "b")])
    }
    #expect(created?.isUnsupported == true)
    let altered = #expect(throws: KafkaError.self) {
      try admin.alterConfig("t", [("retention.ms", "1")])
    }
    #expect(altered?.isUnsupported == true)
  }

  @Test func `No broker is a timeout that can be tried again`() throws {
    let fixture = try Fixture()
    let admin = try KafkaAdmin(
      fixture.configuration(), clientID: "test", timeoutMilliseconds: 300)
    try fixture.cluster.setBrokerDown()
    let error = #expect(throws: KafkaError.self) { try admin.partitionCount("t") }
    #expect(error?.isRetriable == true)
  }
}

@Suite struct ConfigurationTests {
  private func file(_ text: String) throws -> String {
    let path = NSTemporaryDirectory() + "kafka-\(UUID().uuidString).properties"
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  @Test func `The file is applied last`() throws {
    let path = try file("# tuning\n\n linger.ms = 7 \r\nssl.key.password=a=b\n")
    var configuration = try KafkaConfiguration(brokers: "h:1", propertiesFile: path)
    configuration.set("linger.ms", "1")
    configuration.set("linger.ms", "2")
    #expect(
      configuration.properties.map { "\($0.0)=\($0.1)" } == [
        "bootstrap.servers=h:1", "linger.ms=2", "linger.ms=7", "ssl.key.password=a=b",
      ])
  }

  @Test func `An error does not show the value`() throws {
    let secret = "hunter2"
    let path = try file("sasl.password \(secret)\n")
    let unread = #expect(throws: KafkaError.self) {
      try KafkaConfiguration(brokers: "h:1", propertiesFile: path)
    }
    #expect(unread?.description.contains("line 1") == true)
    #expect(unread?.description.contains(secret) == false)
    #expect(throws: KafkaError.self) {
      try KafkaConfiguration(brokers: "h:1", propertiesFile: "/does/not/exist")
    }
    for line in ["no.such=\(secret)", "linger.ms=\(secret)"] {
      let path = try file("client.id=x\n\(line)\n")
      let refused = #expect(throws: KafkaError.self) {
        try KafkaConfiguration(brokers: "h:1", propertiesFile: path)
      }
      #expect(refused?.description.contains(line.prefix { $0 != "=" }) == true)
      #expect(refused?.description.contains(secret) == false)
    }
    for (key, value) in [("no.such", secret), ("linger.ms", secret), ("security.protocol", secret)]
    {
      var configuration = try KafkaConfiguration(brokers: "h:1")
      configuration.set(key, value)
      let error = #expect(throws: KafkaError.self) {
        try KafkaProducer(configuration, clientID: "c")
      }
      #expect(error?.description.contains(key) == true)
      #expect(error?.description.contains(secret) == false)
    }
  }

  @Test func `A prefix in the file is put before topics and groups, and callers do not see it`()
    throws
  {
    let fixture = try Fixture(topics: [("eu.prod.t", 2)])
    let path = try file("topic.prefix = eu.prod.\n")
    let configuration = try KafkaConfiguration(
      brokers: fixture.cluster.bootstrapServers, propertiesFile: path)
    #expect(configuration.properties.map(\.0) == ["bootstrap.servers"])
    let producer = try KafkaProducer(configuration, clientID: "test")
    for n in 0..<10 { try producer.send(partition: Int32(n % 2), value: "\(n)") }
    try producer.flush(timeoutMilliseconds: 30_000)

    let reader = try LogReader(configuration, clientID: "test")
    let places = (0..<2).map { TopicPartition(topic: "t", partition: Int32($0)) }
    #expect(try reader.partitionCount("t") == 2)
    let ends = reader.watermarks(of: places, timeoutMilliseconds: 10_000)
    #expect(try places.map { try ends[$0]?.get().high } == [5, 5])
    var read = 0
    try reader.readAll(places.map { .init($0, from: 0, to: 5) }) { _ in read += 1 }
    #expect(read == 10)
    #expect(try KafkaAdmin(configuration, clientID: "test").describeTopic("t")?.partitions == 2)

    let store = Driver.Store()
    let driver = try Driver(
      KafkaConsumer(configuration, group: "g", clientID: "test"), ["t"], store)
    try until("all is read", turn: { try driver.turn() }) {
      store.total == 10 && store.ends.count == 2
    }
    #expect(driver.owned == Set(places) && driver.consumer.assignment == Set(places))
    #expect(store.strays == [] && store.disorder == [] && store.errors == [])
    #expect(driver.consumer.cachedHighWatermark(places[0]) == 5)
    driver.consumer.close()
  }

  @Test func `A prefix that no topic may have is refused`() throws {
    for prefix in ["a/b", "ü", "a b", String(repeating: "a", count: 201)] {
      let path = try file("topic.prefix=\(prefix)\n")
      let error = #expect(throws: KafkaError.self) {
        try KafkaConfiguration(brokers: "h:1", propertiesFile: path)
      }
      #expect(error?.description.contains("topic.prefix") == true, "\(prefix)")
    }
  }

  @Test func `An error reads as operation text and detail`() {
    let error = KafkaError(code: -187, operation: "consume", detail: "2/2 brokers are down")
    #expect(
      error.description
        == "consume: Local: All broker connections are down (2/2 brokers are down)")
    #expect(error.isRetriable)
    #expect(!KafkaError(code: 29, operation: "consume").isRetriable)
  }
}
