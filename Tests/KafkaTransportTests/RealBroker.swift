import CRdKafka
import Foundation
import KafkaTransport
import MeteringTestKit

/// A Kafka outside of the tests, for what librdkafka's mock cluster does not have.
enum RealBroker {
  static var isGiven: Bool { ProcessInfo.processInfo.environment[variable] != nil }

  static func brokers() throws -> String {
    guard let value = ProcessInfo.processInfo.environment[variable] else {
      throw NeverHappened(description: "\(variable) is not set")
    }
    return value
  }

  private static let variable = "METER_TEST_KAFKA_BROKERS"
}

/// A producer of transactions, which no part of the product is.
final class TransactionalProducer {
  private let raw: OpaquePointer

  init(brokers: String, id: String) throws {
    let conf = rd_kafka_conf_new()
    for (key, value) in [("bootstrap.servers", brokers), ("transactional.id", id)] {
      rd_kafka_conf_set(conf, key, value, nil, 0)
    }
    guard let raw = rd_kafka_new(RD_KAFKA_PRODUCER, conf, nil, 0) else {
      throw NeverHappened(description: "no producer")
    }
    self.raw = raw
    try Self.check(rd_kafka_init_transactions(raw, 30_000))
  }

  deinit { rd_kafka_destroy(raw) }

  func begin() throws { try Self.check(rd_kafka_begin_transaction(raw)) }
  func commit() throws { try Self.check(rd_kafka_commit_transaction(raw, 30_000)) }

  /// Returns when the brokers have them.
  func send(_ topic: String, count: Int) throws {
    guard let handle = rd_kafka_topic_new(raw, topic, nil) else {
      throw NeverHappened(description: "no topic")
    }
    defer { rd_kafka_topic_destroy(handle) }
    for i in 0..<count {
      var value = Array("\(i)".utf8)
      rd_kafka_produce(
        handle, 0, Int32(RD_KAFKA_MSG_F_COPY), &value, value.count, nil, 0, nil)
    }
    let code = rd_kafka_flush(raw, 30_000)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
      throw NeverHappened(description: String(cString: rd_kafka_err2str(code)))
    }
  }

  private static func check(_ error: OpaquePointer?) throws {
    guard let error else { return }
    defer { rd_kafka_error_destroy(error) }
    throw NeverHappened(description: String(cString: rd_kafka_error_string(error)))
  }
}
