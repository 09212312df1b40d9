import CRdKafka

/// librdkafka's own mock cluster in this process, for `dev-broker` and tests. It listens on ports
/// of 127.0.0.1 that the system chooses.
///
/// It keeps 5 MB of compressed batches of each partition, which is fixed in librdkafka 2.0.2, and
/// drops older ones. It stores nothing on disk. It supports no admin requests and no control
/// records, and answers a look-up of offsets by time with the end. A missing topic that a request
/// names is made with 4 partitions.
///
/// It is freed in `deinit` on any thread, which blocks until the broker's thread has ended.
///
/// `@unchecked Sendable`: both pointers are set once. Every `rd_kafka_mock_*` call below passes an
/// operation to the cluster's own thread or takes its lock.
package final class MockCluster: @unchecked Sendable {
  private let handle: ClientHandle
  private let cluster: OpaquePointer
  /// `host:port,…`
  package let bootstrapServers: String

  /// - Parameter brokers: the number of brokers, at least 1. Their ids are 1, 2, ……
  package init(brokers: Int = 1) throws(KafkaError) {
    // The instance is only for book-keeping. It has no brokers and makes no connections.
    handle = try ClientHandle(
      RD_KAFKA_PRODUCER, KafkaConfiguration(brokers: ""), defaults: [],
      callbacks: CallbackState(.plain))
    guard brokers > 0, let cluster = rd_kafka_mock_cluster_new(handle.raw, Int32(brokers)) else {
      throw KafkaError(RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "mock cluster")
    }
    self.cluster = cluster
    bootstrapServers = String(cString: rd_kafka_mock_cluster_bootstraps(cluster))
  }

  deinit { rd_kafka_mock_cluster_destroy(cluster) }

  package func createTopic(
    _ name: String, partitions: Int, replication: Int = 1
  ) throws(KafkaError) {
    try check(
      rd_kafka_mock_topic_create(cluster, name, Int32(partitions), Int32(replication)),
      "mock create topic", name)
  }

  // MARK: Faults

  /// Cuts the broker's connections and refuses new ones. Nil stands for all brokers.
  package func setBrokerDown(_ broker: Int32? = nil) throws(KafkaError) {
    try check(rd_kafka_mock_broker_set_down(cluster, broker ?? -1), "mock broker down")
  }

  package func setBrokerUp(_ broker: Int32? = nil) throws(KafkaError) {
    try check(rd_kafka_mock_broker_set_up(cluster, broker ?? -1), "mock broker up")
  }

  /// Delays every answer of the broker. Nil stands for all brokers.
  package func setRTT(milliseconds: Int32, broker: Int32? = nil) throws(KafkaError) {
    try check(rd_kafka_mock_broker_set_rtt(cluster, broker ?? -1, milliseconds), "mock rtt")
  }

  /// Makes the next requests of this kind fail, one with each code (`rd_kafka_resp_err_t`). The
  /// code -195, `_TRANSPORT`, cuts the connection.
  package func pushRequestErrors(apiKey: ApiKey, _ codes: [Int32]) {
    let codes = codes.map { rd_kafka_resp_err_t($0) }
    rd_kafka_mock_push_request_errors_array(cluster, apiKey.rawValue, codes.count, codes)
  }

  package func clearRequestErrors(apiKey: ApiKey) {
    rd_kafka_mock_clear_request_errors(cluster, apiKey.rawValue)
  }

  /// Sets the topic's error in metadata answers. 0 removes it.
  package func setTopicError(_ topic: String, code: Int32) {
    rd_kafka_mock_topic_set_error(cluster, topic, rd_kafka_resp_err_t(code))
  }

  /// Sets the partition's leader. Nil stands for no leader.
  package func setLeader(_ partition: TopicPartition, broker: Int32?) throws(KafkaError) {
    try check(
      rd_kafka_mock_partition_set_leader(
        cluster, partition.topic, partition.partition, broker ?? -1), "mock leader")
  }

  /// The numbers of the requests that tests break.
  package enum ApiKey: Int16, Sendable {
    case produce = 0
    case fetch = 1
    case listOffsets = 2
    case metadata = 3
    case offsetCommit = 8
    case offsetFetch = 9
    case findCoordinator = 10
    case joinGroup = 11
    case heartbeat = 12
    case leaveGroup = 13
    case syncGroup = 14
    case initProducerId = 22
  }
}
