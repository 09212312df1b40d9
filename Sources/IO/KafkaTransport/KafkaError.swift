import CRdKafka

/// An error of librdkafka or of a broker with its native code.
///
/// `description` never contains a property's value, a payload or a key, so it may be logged.
package struct KafkaError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The `rd_kafka_resp_err_t`. Negative codes are librdkafka's own, and positive codes are the
  /// broker's.
  package let code: Int32
  /// The call that failed, such as `consume`, `assign` or `produce`.…
  package let operation: String
  /// Whether the same call may succeed later with nothing else changed.
  package let isRetriable: Bool
  /// Whether the client cannot be used any more and must be replaced.
  package let isFatal: Bool
  /// What librdkafka says in addition to the code. It may be empty.
  package let detail: String

  package init(
    code: Int32, operation: String, isRetriable: Bool? = nil, isFatal: Bool = false,
    detail: String = ""
  ) {
    self.code = code
    self.operation = operation
    self.isRetriable = isRetriable ?? (!isFatal && Self.retriableCodes.contains(code))
    self.isFatal = isFatal
    self.detail = detail
  }

  /// librdkafka's own text of the code, e.g. `Local: Timed out`.
  package var summary: String {
    String(cString: rd_kafka_err2str(rd_kafka_resp_err_t(code)))
  }

  package var description: String {
    detail.isEmpty || detail == summary
      ? "\(operation): \(summary)" : "\(operation): \(summary) (\(detail))"
  }

  /// The broker (or the mock cluster) does not know this request at all.
  package var isUnsupported: Bool {
    code == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE.rawValue
      || code == RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION.rawValue
  }

  /// A start position lies outside the log.
  package var isOffsetOutOfRange: Bool {
    code == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE.rawValue
      || code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET.rawValue
  }

  /// A batch does not have the checksum that it was written with.
  package var isBadBatch: Bool {
    code == RD_KAFKA_RESP_ERR__BAD_MSG.rawValue || code == RD_KAFKA_RESP_ERR_INVALID_MSG.rawValue
  }

  /// No broker at all can be reached.
  package var isAllBrokersDown: Bool {
    code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN.rawValue
  }

  package var isTimeout: Bool {
    code == RD_KAFKA_RESP_ERR__TIMED_OUT.rawValue
      || code == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT.rawValue
  }

  /// A record, or the batch that it was sent in, is larger than the topic or the client takes.
  package var isTooLarge: Bool {
    code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE.rawValue
  }

  /// No broker answered in time.
  package static func noAnswer(_ operation: String) -> KafkaError {
    KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, operation: operation)
  }

  package var isTopicAlreadyThere: Bool {
    code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS.rawValue
  }

  package var isUnknownTopicOrPartition: Bool {
    code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART.rawValue
      || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC.rawValue
      || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION.rawValue
  }

  /// The codes that Java's client marks as `RetriableException`, and librdkafka's local
  /// equivalents. The list is needed because only transactional calls set
  /// `rd_kafka_error_is_retriable`. It would be false for every call of this module.
  private static let retriableCodes: Set<Int32> = Set(
    [
      RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
      RD_KAFKA_RESP_ERR__RESOLVE, RD_KAFKA_RESP_ERR__TIMED_OUT,
      RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, RD_KAFKA_RESP_ERR__QUEUE_FULL,
      RD_KAFKA_RESP_ERR__WAIT_COORD, RD_KAFKA_RESP_ERR__WAIT_CACHE,
      RD_KAFKA_RESP_ERR__IN_PROGRESS, RD_KAFKA_RESP_ERR__RETRY,
      RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, RD_KAFKA_RESP_ERR__OUTDATED,
      RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS, RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED,
      RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
      RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
      RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
      RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
      RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, RD_KAFKA_RESP_ERR_NOT_CONTROLLER,
      RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
      RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH, RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE,
    ].map(\.rawValue))
}

extension KafkaError {
  /// Makes the error of a code that a call returned.
  ///
  /// - Precondition: `code` is not `NO_ERROR`.
  init(_ code: rd_kafka_resp_err_t, operation: String, detail: String = "") {
    self.init(code: code.rawValue, operation: operation, detail: detail)
  }

  /// Takes over a `rd_kafka_error_t *` and frees it.
  init(taking error: OpaquePointer, operation: String) {
    let isFatal = rd_kafka_error_is_fatal(error) != 0
    let saysRetriable = rd_kafka_error_is_retriable(error) != 0
    self.init(
      code: rd_kafka_error_code(error).rawValue, operation: operation,
      isRetriable: saysRetriable ? true : nil, isFatal: isFatal,
      detail: String(cString: rd_kafka_error_string(error)))
    rd_kafka_error_destroy(error)
  }
}

/// Throws unless the code is `NO_ERROR`.
func check(
  _ code: rd_kafka_resp_err_t, _ operation: String, _ detail: @autoclosure () -> String = ""
) throws(KafkaError) {
  guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
  throw KafkaError(code, operation: operation, detail: detail())
}

/// Throws, and frees, a `rd_kafka_error_t *` unless it is NULL.
func check(_ error: OpaquePointer?, _ operation: String) throws(KafkaError) {
  if let error { throw KafkaError(taking: error, operation: operation) }
}
