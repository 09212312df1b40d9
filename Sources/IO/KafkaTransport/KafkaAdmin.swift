import CRdKafka

/// Creates and describes topics.
///
/// Every call blocks for up to the timeout, so it belongs on a separate thread. Calls may come from
/// any thread, one at a time. The mock cluster supports no admin requests, so they throw an error
/// with `isUnsupported` there.
package final class KafkaAdmin {
  /// One setting of a topic.
  package struct ConfigEntry: Sendable, Hashable {
    package let name: String
    /// Nil if it is not set, or if the broker keeps it secret.
    package let value: String?
    /// Whether it is set for this topic and not inherited from the broker or Kafka's own default.
    package let isSetOnTopic: Bool
  }

  package struct TopicDescription: Sendable {
    package let name: String
    package let partitions: Int
    /// The replicas of the partition that has the fewest.
    package let replication: Int
    /// nil if the broker does not support DescribeConfigs.
    package let config: [ConfigEntry]?
  }

  let handle: ClientHandle
  private let timeoutMilliseconds: Int32

  /// - Throws: `KafkaError` (`_INVALID_ARG`) if a property is refused. Does not wait for a broker.
  package init(
    _ configuration: KafkaConfiguration, clientID: String, timeoutMilliseconds: Int32 = 15_000
  ) throws(KafkaError) {
    self.timeoutMilliseconds = timeoutMilliseconds
    handle = try ClientHandle(
      RD_KAFKA_PRODUCER, configuration, defaults: [("client.id", clientID)],
      callbacks: CallbackState(configuration.names))
  }

  /// - Throws: `isTopicAlreadyThere`, `isUnsupported`, `isTimeout`, or the broker's refusal.
  package func createTopic(
    _ name: String, partitions: Int, replication: Int, config: [(String, String)] = []
  ) throws(KafkaError) {
    var message = [CChar](repeating: 0, count: 256)
    guard
      let topic = rd_kafka_NewTopic_new(
        handle.names.atBrokers(name), Int32(partitions), Int32(replication), &message,
        message.count)
    else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "create topic",
        detail: ClientHandle.text(message))
    }
    defer { rd_kafka_NewTopic_destroy(topic) }
    for (key, value) in config {
      try check(rd_kafka_NewTopic_set_config(topic, key, value), "create topic", key)
    }
    try request(RD_KAFKA_ADMIN_OP_CREATETOPICS, "create topic", detail: name) { options, queue in
      var topics: [OpaquePointer?] = [topic]
      rd_kafka_CreateTopics(handle.raw, &topics, 1, options, queue)
    } result: { event throws(KafkaError) in
      var count = 0
      let results = rd_kafka_CreateTopics_result_topics(
        rd_kafka_event_CreateTopics_result(event), &count)
      for i in 0..<count {
        let result = results?[i]
        try check(
          rd_kafka_topic_result_error(result), "create topic",
          rd_kafka_topic_result_error_string(result).map { String(cString: $0) } ?? name)
      }
    }
  }

  /// - Returns: nil if the topic does not exist.
  package func describeTopic(_ name: String) throws(KafkaError) -> TopicDescription? {
    guard let shape = try shape(name) else { return nil }
    var config: [ConfigEntry]?
    do throws(KafkaError) {
      config = try describeConfig(name)
    } catch {
      guard error.isUnsupported else { throw error }
    }
    return TopicDescription(
      name: name, partitions: shape.partitions, replication: shape.replication, config: config)
  }

  /// - Throws: `isUnsupported` on the mock cluster.
  package func describeConfig(_ topic: String) throws(KafkaError) -> [ConfigEntry] {
    let resource = rd_kafka_ConfigResource_new(
      RD_KAFKA_RESOURCE_TOPIC, handle.names.atBrokers(topic))
    defer { rd_kafka_ConfigResource_destroy(resource) }
    var entries: [ConfigEntry] = []
    try request(RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, "describe topic", detail: topic) {
      options, queue in
      var resources = [resource]
      rd_kafka_DescribeConfigs(handle.raw, &resources, 1, options, queue)
    } result: { event throws(KafkaError) in
      var count = 0
      let resources = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(event), &count)
      for i in 0..<count {
        try Self.checkResource(resources?[i], "describe topic", topic)
        entries += Self.entries(of: resources?[i])
      }
    }
    return entries.sorted { $0.name < $1.name }
  }

  /// Sets these settings and leaves the topic's others as they are.
  ///
  /// librdkafka 2.0.2 only has AlterConfigs, which reverts settings that are not named. So the
  /// settings of the topic are read first and sent along. Two operators at the same time may undo
  /// each other's change.
  package func alterConfig(
    _ topic: String, _ changes: [(String, String)]
  ) throws(KafkaError) {
    var wanted: [String: String] = [:]
    for entry in try describeConfig(topic) where entry.isSetOnTopic {
      wanted[entry.name] = entry.value
    }
    for (name, value) in changes { wanted[name] = value }

    let resource = rd_kafka_ConfigResource_new(
      RD_KAFKA_RESOURCE_TOPIC, handle.names.atBrokers(topic))
    defer { rd_kafka_ConfigResource_destroy(resource) }
    for (name, value) in wanted {
      try check(
        rd_kafka_ConfigResource_set_config(resource, name, value), "alter topic", name)
    }
    try request(RD_KAFKA_ADMIN_OP_ALTERCONFIGS, "alter topic", detail: topic) { options, queue in
      var resources = [resource]
      rd_kafka_AlterConfigs(handle.raw, &resources, 1, options, queue)
    } result: { event throws(KafkaError) in
      var count = 0
      let resources = rd_kafka_AlterConfigs_result_resources(
        rd_kafka_event_AlterConfigs_result(event), &count)
      for i in 0..<count { try Self.checkResource(resources?[i], "alter topic", topic) }
    }
  }

  /// - Returns: nil if the topic does not exist. The call never creates it.
  package func partitionCount(_ topic: String) throws(KafkaError) -> Int? {
    try handle.partitionCount(topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  // MARK: -

  private func shape(_ topic: String) throws(KafkaError) -> (partitions: Int, replication: Int)? {
    guard let partitions = try partitionCount(topic) else { return nil }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    try check(
      rd_kafka_metadata(handle.raw, 1, nil, &metadata, timeoutMilliseconds), "metadata", topic)
    defer { rd_kafka_metadata_destroy(metadata) }
    let topics = UnsafeBufferPointer(
      start: metadata!.pointee.topics, count: Int(metadata!.pointee.topic_cnt))
    let name = handle.names.atBrokers(topic)
    guard let found = topics.first(where: { String(cString: $0.topic) == name }) else {
      return nil
    }
    let counts = UnsafeBufferPointer(start: found.partitions, count: Int(found.partition_cnt))
      .map { Int($0.replica_cnt) }
    return (partitions, counts.min() ?? 0)
  }

  /// Sends one request on a separate queue and waits for its answer.
  func request(
    _ operation: rd_kafka_admin_op_t, _ name: String, detail: String,
    send: (_ options: OpaquePointer?, _ queue: OpaquePointer?) -> Void,
    result: (_ event: OpaquePointer?) throws(KafkaError) -> Void
  ) throws(KafkaError) {
    try refuseMockCluster(name)
    let options = rd_kafka_AdminOptions_new(handle.raw, operation)
    defer { rd_kafka_AdminOptions_destroy(options) }
    // This fails only outside of the range of 0 to an hour. Then librdkafka's own timeout applies.
    _ = rd_kafka_AdminOptions_set_request_timeout(options, timeoutMilliseconds, nil, 0)
    let queue = rd_kafka_queue_new(handle.raw)
    defer { rd_kafka_queue_destroy(queue) }
    send(options, queue)
    // librdkafka answers within its own timeout. The margin is for a clock that stands still.
    let event = rd_kafka_queue_poll(queue, timeoutMilliseconds + 5_000)
    guard let event else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, operation: name, detail: detail)
    }
    defer { rd_kafka_event_destroy(event) }
    try check(
      rd_kafka_event_error(event), name,
      rd_kafka_event_error_string(event).map { String(cString: $0) } ?? detail)
    try result(event)
  }

  /// Refuses immediately. librdkafka would fail only after the timeout and with a wrong reason,
  /// because it waits for a controller, which the mock cluster does not have. librdkafka does not
  /// show a broker's ApiVersions, but the mock cluster can be recognized by its id.
  private func refuseMockCluster(_ operation: String) throws(KafkaError) {
    guard let id = rd_kafka_clusterid(handle.raw, timeoutMilliseconds) else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__TIMED_OUT, operation: operation, detail: "no broker answers")
    }
    defer { rd_kafka_mem_free(handle.raw, id) }
    guard String(cString: id).hasPrefix("mockCluster") else { return }
    throw KafkaError(
      RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, operation: operation,
      detail: "librdkafka's mock cluster (dev-broker) does not support admin requests")
  }

  private static func checkResource(
    _ resource: OpaquePointer?, _ operation: String, _ topic: String
  ) throws(KafkaError) {
    try check(
      rd_kafka_ConfigResource_error(resource), operation,
      rd_kafka_ConfigResource_error_string(resource).map { String(cString: $0) } ?? topic)
  }

  private static func entries(of resource: OpaquePointer?) -> [ConfigEntry] {
    var count = 0
    let entries = rd_kafka_ConfigResource_configs(resource, &count)
    return (0..<count).compactMap { i in
      guard let entry = entries?[i] else { return nil }
      return ConfigEntry(
        name: String(cString: rd_kafka_ConfigEntry_name(entry)),
        value: rd_kafka_ConfigEntry_value(entry).map { String(cString: $0) },
        isSetOnTopic: rd_kafka_ConfigEntry_source(entry)
          == RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG)
    }
  }
}
