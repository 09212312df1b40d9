import Foundation
import MeteringTestKit
import Testing

@testable import KafkaTransport

/// How messages of librdkafka and the brokers become advice for the operator.
@Suite struct AccessRefusalTests {
  private static let codes: [(code: Int32, detail: String, refusal: AccessRefusal?, says: String)] =
    [
      (58, "Authentication failed: Invalid username or password", .credentials, "sasl.password"),
      (-169, "SASL authentication error: Authentication failed", .credentials, "sasl.password"),
      (-169, "SASL Handshake not supported by broker", .mechanism, "sasl.mechanism"),
      (33, "", .mechanism, "sasl.mechanism"), (34, "", .mechanism, "security.protocol"),
      (-181, "certificate verify failed", .certificate, "ssl.ca.location"),
      (-195, "h:9093/1: SSL handshake failed: Disconnected", .certificate, "ssl.ca.location"),
      (29, "t", .permission, "an ACL"), (30, "g", .permission, "Read on the consumer group"),
      (31, "", .permission, "an ACL"), (53, "", .permission, "an ACL"),
      // An unknown topic, a lost connection and a timeout may pass without help.
      (3, "t", nil, ""), (-195, "Disconnected", nil, ""), (-185, "", nil, ""), (-187, "", nil, ""),
    ]

  @Test func `Each refusal has its kind and an advice that fits`() {
    for row in Self.codes {
      let error = KafkaError(code: row.code, operation: "connect", detail: row.detail)
      #expect(error.accessRefusal == row.refusal, "\(row.code) \(row.detail)")
      #expect(error.isAccessRefused == (row.refusal != nil))
      #expect((error.advice != nil) == (row.refusal != nil))
      #expect(row.says.isEmpty || error.advice?.contains(row.says) == true, "\(row.code)")
      #expect(error.explanation.hasPrefix(error.description))
    }
    let missing = KafkaError(code: 3, operation: "metadata", detail: "t")
    #expect(missing.isUnknownTopicOrPartition && missing.isRetriable)
  }
}

@Suite(.serialized) struct AccessTests {
  private let topic = TopicPartition(topic: "t", partition: 0)

  @Test func `A topic that may not be described is refused, not missing`() throws {
    let fixture = try Fixture()
    let reader = try fixture.reader()
    #expect(try reader.partitionCount("absent") == nil)
    fixture.cluster.setTopicError("t", code: 29)
    let refused = #expect(throws: KafkaError.self) { try reader.partitionCount("t") }
    #expect(refused?.accessRefusal == .permission)
    #expect(refused?.description.contains("(t)") == true)
  }

  @Test func `A log whose ends may not be asked for names the permission`() throws {
    let fixture = try Fixture()
    try fixture.fill(count: 1)
    let reader = try fixture.reader()
    fixture.cluster.pushRequestErrors(apiKey: .listOffsets, [29, 29, 29, 29])
    let refused = #expect(throws: KafkaError.self) { try reader.watermarks(topic) }
    #expect(refused?.accessRefusal == .permission)
    #expect(refused?.isRetriable == false)
  }

  @Test func `A group that may not be joined is named as such`() throws {
    let fixture = try Fixture()
    let consumer = try fixture.consumer("g")
    fixture.cluster.pushRequestErrors(
      apiKey: .joinGroup, [Int32](repeating: 30, count: 50))
    try consumer.subscribe(["t"])
    let batch = MessageBatch(capacity: 8)
    var found: [KafkaError] = []
    try eventually("a refusal of the group") {
      let count = try consumer.consume(into: batch, timeoutMilliseconds: 20)
      found += (0..<count).compactMap { batch.error($0) } + consumer.takeErrors()
      batch.recycle()
      return found.contains { $0.isGroupRefused }
    }
    let refusal = try #require(found.first { $0.isGroupRefused })
    #expect(refusal.advice?.contains("consumer group") == true)
    consumer.close()
  }

  @Test func `A wrong password is reported as such by a broker that refuses it`() throws {
    let broker = try RefusingBroker()
    var configuration = try KafkaConfiguration(brokers: "127.0.0.1:\(broker.port)")
    for (key, value) in [
      ("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN"),
      ("sasl.username", "meter"), ("sasl.password", "hunter2"),
    ] { configuration.set(key, value) }
    let reader = try LogReader(configuration, clientID: "test")
    let refused = #expect(throws: KafkaError.self) {
      try reader.awaitBroker(timeoutMilliseconds: 10_000)
    }
    #expect(refused?.accessRefusal == .credentials)
    #expect(refused?.explanation.contains("Invalid username or password") == true)
    #expect(refused?.explanation.contains("hunter2") == false)
  }

  @Test func `A broker whose authority is not known asks for ssl.ca.location`() throws {
    let server = try TLSServer()
    var configuration = try KafkaConfiguration(brokers: "127.0.0.1:\(server.port)")
    configuration.set("security.protocol", "ssl")
    let reader = try LogReader(configuration, clientID: "test")
    let refused = #expect(throws: KafkaError.self) {
      try reader.awaitBroker(timeoutMilliseconds: 10_000)
    }
    #expect(refused?.accessRefusal == .certificate)
    #expect(refused?.explanation.contains("ssl.ca.location") == true)
    withExtendedLifetime(server) {}
  }

  @Test func `A missing authority file is reported before anything is connected`() throws {
    var configuration = try KafkaConfiguration(brokers: "127.0.0.1:9")
    configuration.set("security.protocol", "ssl")
    configuration.set("ssl.ca.location", "/does/not/exist.pem")
    let refused = #expect(throws: KafkaError.self) {
      try LogReader(configuration, clientID: "test")
    }
    #expect(refused?.description.contains("ssl.ca.location") == true)
  }
}
