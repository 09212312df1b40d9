import CRdKafka

/// The first contact of a tool with its cluster. It is bounded in time and reports what refused the
/// connection.
///
/// After a wrong password or an unknown certificate, librdkafka goes on trying and its calls end
/// with a timeout, as if there were no broker. The real errors come through its error callback.
extension ClientHandle {
  /// Returns once a broker has answered.
  ///
  /// - Throws: the refusal of the connection as soon as it is known. Otherwise `_ALL_BROKERS_DOWN`
  ///   after the timeout, with librdkafka's own words in `detail`.
  func awaitBroker(timeoutMilliseconds: Int32) throws(KafkaError) {
    let clock = ContinuousClock()
    let start = clock.now
    var said: [KafkaError] = []
    while true {
      if let id = rd_kafka_clusterid(raw, 200) {
        rd_kafka_mem_free(raw, id)
        return
      }
      rd_kafka_poll(raw, 0)
      for error in callbacks.takeErrors() where !said.contains(error) { said.append(error) }
      let waited = start.duration(to: clock.now)
      // The other brokers of the list get a moment, because the state of one broker must not decide
      // for all.
      if waited > .milliseconds(1_500), let refusal = said.last(where: \.isAccessRefused) {
        throw KafkaError(
          code: refusal.code, operation: "connect", isRetriable: false, detail: refusal.detail)
      }
      guard waited < .milliseconds(timeoutMilliseconds) else {
        // The general "all brokers are down" says less than the reasons before it.
        let reasons = said.filter { $0.code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN.rawValue }
        throw KafkaError(
          RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, operation: "connect",
          detail: (reasons.isEmpty ? said : reasons).suffix(3).map(\.detail).joined(separator: "; ")
        )
      }
    }
  }
}

extension KafkaError {
  /// Whether a topic needs more copies than the cluster has brokers.
  package var isReplicationRefused: Bool {
    code == RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR.rawValue
  }
}

extension LogReader {
  /// See `ClientHandle.awaitBroker`.
  package func awaitBroker(timeoutMilliseconds: Int32) throws(KafkaError) {
    try handle.awaitBroker(timeoutMilliseconds: timeoutMilliseconds)
  }
}

extension KafkaAdmin {
  /// See `ClientHandle.awaitBroker`.
  package func awaitBroker(timeoutMilliseconds: Int32) throws(KafkaError) {
    try handle.awaitBroker(timeoutMilliseconds: timeoutMilliseconds)
  }

  /// Gives a topic more partitions.
  ///
  /// - Parameter total: the number afterwards.
  /// - Throws: `isUnsupported` on the mock cluster.
  package func createPartitions(_ name: String, total: Int) throws(KafkaError) {
    var message = [CChar](repeating: 0, count: 256)
    guard
      let wanted = rd_kafka_NewPartitions_new(
        handle.names.atBrokers(name), total, &message, message.count)
    else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "create partitions",
        detail: ClientHandle.text(message))
    }
    defer { rd_kafka_NewPartitions_destroy(wanted) }
    try request(
      RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, "create partitions", detail: name
    ) { options, queue in
      var list: [OpaquePointer?] = [wanted]
      rd_kafka_CreatePartitions(handle.raw, &list, 1, options, queue)
    } result: { event throws(KafkaError) in
      var count = 0
      let results = rd_kafka_CreatePartitions_result_topics(
        rd_kafka_event_CreatePartitions_result(event), &count)
      for i in 0..<count {
        let result = results?[i]
        try check(
          rd_kafka_topic_result_error(result), "create partitions",
          rd_kafka_topic_result_error_string(result).map { String(cString: $0) } ?? name)
      }
    }
  }
}
