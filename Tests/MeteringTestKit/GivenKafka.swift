import CRdKafka
import Foundation
package import KafkaTransport

/// The Kafka that `METER_TEST_KAFKA_BROKERS` names. The integration tests use it instead of
/// librdkafka's mock cluster. Tests of what only a real broker has run only with it.
///
/// The names of topics and groups have a prefix that is made up for each run, so that the cluster
/// may have others. Each test creates the topics and removes them at its end.
package enum GivenKafka {
  private static let variable = "METER_TEST_KAFKA_BROKERS"
  private static let lock = NSLock()
  private nonisolated(unsafe) static var owner = 0  // Guarded by `lock`.

  /// `host:port,…`; nil if none is given.
  package static var brokers: String? {
    let value = ProcessInfo.processInfo.environment[variable] ?? ""
    return value.isEmpty ? nil : value
  }

  package static func required() throws -> String {
    guard let brokers else { throw NeverHappened(description: "\(variable) is not set") }
    return brokers
  }

  /// What the cluster calls our topics and groups.
  package static let names: TopicNames =
    TopicNames(checking: "meter-test-\(UUID().uuidString.prefix(8).lowercased()).") ?? .plain

  /// The prefix, for programs that are given these brokers; nil for others.
  static func prefix(for brokers: String?) -> String? {
    brokers != nil && brokers == Self.brokers ? names.prefix : nil
  }

  /// A file with the prefix and no other property; nil for programs that are given other brokers.
  package static func configFile(for brokers: String?) -> String? {
    prefix(for: brokers) == nil ? nil : prefixFile
  }

  private static let prefixFile: String? = {
    let path = NSTemporaryDirectory() + names.prefix + "properties"
    let text = Data("topic.prefix=\(names.prefix)\n".utf8)
    return FileManager.default.createFile(atPath: path, contents: text) ? path : nil
  }()

  /// The configuration of a test's own clients.
  package static func configuration() throws -> KafkaConfiguration {
    var made = try KafkaConfiguration(brokers: required())
    made.name(with: names)
    return made
  }

  static let topics = [UsageLog.topic, UsageLog.validationTopic, UsageLog.deadLetterTopic]

  /// Creates the topics, after removing those of the test before.
  ///
  /// - Returns: the argument of `removeTopics`, which does not remove topics that were created
  ///   later.
  static func makeTopics(
    partitions: Int, config: [(String, String)]
  ) throws -> Int {
    lock.lock()
    defer { lock.unlock() }
    let admin = try KafkaAdmin(configuration(), clientID: "test")
    try remove(topics, admin)
    for topic in topics {
      try make(topic, topic == UsageLog.deadLetterTopic ? 2 : partitions, config, admin)
    }
    owner += 1
    return owner
  }

  static func removeTopics(of maker: Int) {
    lock.lock()
    defer { lock.unlock() }
    guard maker == owner, brokers != nil else { return }
    do {
      try remove(topics, KafkaAdmin(configuration(), clientID: "test"))
    } catch {
      // The next test removes them. After the last test they stay, under names that say whose they
      // are.
      print("the topics were not removed: \(error)")
    }
  }

  private static func make(
    _ topic: String, _ partitions: Int, _ config: [(String, String)], _ admin: KafkaAdmin
  ) throws {
    // A broker may know a topic's name for a while after its removal.
    var last: KafkaError?
    try eventually("the topic \(topic) can be made, but \(last?.description ?? "")", within: 30) {
      do throws(KafkaError) {
        try admin.createTopic(topic, partitions: partitions, replication: 1, config: config)
        return true
      } catch {
        last = error
        return false
      }
    }
    try eventually("the topic \(topic) is there", within: 30) {
      try admin.partitionCount(topic) == partitions
    }
  }

  private static func remove(_ topics: [String], _ admin: KafkaAdmin) throws {
    let there = try topics.filter { try admin.partitionCount($0) != nil }
    guard !there.isEmpty else { return }
    try RawAdmin(brokers: required()).deleteTopics(there.map(names.atBrokers))
    for topic in there {
      try eventually("the topic \(topic) is gone", within: 30) {
        try admin.partitionCount(topic) == nil
      }
    }
  }
}

/// Requests that no part of the product makes. Topics have the brokers' names.
package final class RawAdmin {
  private let raw: OpaquePointer
  private let queue: OpaquePointer

  package init(brokers: String) throws {
    let conf = rd_kafka_conf_new()
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, nil, 0)
    guard let raw = rd_kafka_new(RD_KAFKA_PRODUCER, conf, nil, 0) else {
      throw NeverHappened(description: "no client")
    }
    self.raw = raw
    queue = rd_kafka_queue_new(raw)
  }

  deinit {
    rd_kafka_queue_destroy(queue)
    rd_kafka_destroy(raw)
  }

  package func deleteTopics(_ topics: [String]) throws {
    var requests = topics.map { rd_kafka_DeleteTopic_new($0) }
    defer { for request in requests { rd_kafka_DeleteTopic_destroy(request) } }
    rd_kafka_DeleteTopics(raw, &requests, requests.count, nil, queue)
    try answer("delete topics") { event in
      var count = 0
      let results = rd_kafka_DeleteTopics_result_topics(
        rd_kafka_event_DeleteTopics_result(event), &count)
      return (0..<count).map { rd_kafka_topic_result_error(results?[$0]) }
    }
  }

  /// Removes the records before `offset`.
  package func deleteRecords(_ topic: String, partition: Int32, before offset: Int64) throws {
    let list = rd_kafka_topic_partition_list_new(1)
    rd_kafka_topic_partition_list_add(list, topic, partition)?.pointee.offset = offset
    var request = rd_kafka_DeleteRecords_new(list)
    rd_kafka_topic_partition_list_destroy(list)
    defer { rd_kafka_DeleteRecords_destroy(request) }
    rd_kafka_DeleteRecords(raw, &request, 1, nil, queue)
    try answer("delete records") { event in
      let offsets = rd_kafka_DeleteRecords_result_offsets(
        rd_kafka_event_DeleteRecords_result(event))
      return offsets.map { [$0.pointee.elems.pointee.err] } ?? []
    }
  }

  private func answer(
    _ operation: String, _ errors: (OpaquePointer?) -> [rd_kafka_resp_err_t]
  ) throws {
    guard let event = rd_kafka_queue_poll(queue, 30_000) else {
      throw NeverHappened(description: "\(operation): no answer")
    }
    defer { rd_kafka_event_destroy(event) }
    for code in [rd_kafka_event_error(event)] + errors(event)
    where code != RD_KAFKA_RESP_ERR_NO_ERROR {
      throw NeverHappened(
        description: "\(operation): \(String(cString: rd_kafka_err2str(code)))")
    }
  }
}

/// What a group has committed to Kafka about its position.
package enum GroupOffsets {
  /// - Returns: nil if the group has committed nothing for the partition.
  package static func committed(
    brokers: String, group: String, topic: String, partition: Int32
  ) throws -> Int64? {
    let conf = rd_kafka_conf_new()
    for (key, value) in [("bootstrap.servers", brokers), ("group.id", group)] {
      rd_kafka_conf_set(conf, key, value, nil, 0)
    }
    guard let raw = rd_kafka_new(RD_KAFKA_CONSUMER, conf, nil, 0) else {
      throw NeverHappened(description: "no consumer")
    }
    defer { rd_kafka_destroy(raw) }
    let list = rd_kafka_topic_partition_list_new(1)
    defer { rd_kafka_topic_partition_list_destroy(list) }
    rd_kafka_topic_partition_list_add(list, topic, partition)
    let code = rd_kafka_committed(raw, list, 30_000)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let list else {
      throw NeverHappened(description: String(cString: rd_kafka_err2str(code)))
    }
    let offset = list.pointee.elems.pointee.offset
    return offset >= 0 ? offset : nil
  }
}

/// A producer of transactions. No part of the product is one.
package final class TransactionalProducer {
  private let raw: OpaquePointer

  package init(brokers: String, id: String) throws {
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

  package func begin() throws { try Self.check(rd_kafka_begin_transaction(raw)) }
  package func commit() throws { try Self.check(rd_kafka_commit_transaction(raw, 30_000)) }
  package func abort() throws { try Self.check(rd_kafka_abort_transaction(raw, 30_000)) }

  /// Returns when the brokers have the records.
  package func send(_ topic: String, count: Int) throws {
    try send(topic, (0..<count).map { (key: nil, value: Array("\($0)".utf8)) })
  }

  /// Sends to partition 0. Returns when the brokers have the records.
  package func send(_ topic: String, _ records: [(key: String?, value: [UInt8])]) throws {
    guard let handle = rd_kafka_topic_new(raw, topic, nil) else {
      throw NeverHappened(description: "no topic")
    }
    defer { rd_kafka_topic_destroy(handle) }
    for record in records {
      var value = record.value
      let key = record.key.map { Array($0.utf8) }
      rd_kafka_produce(
        handle, 0, Int32(RD_KAFKA_MSG_F_COPY), &value, value.count, key, key?.count ?? 0, nil)
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
