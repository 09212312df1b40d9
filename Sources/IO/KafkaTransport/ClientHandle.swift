import CRdKafka

/// Owns one `rd_kafka_t` and, for a consumer, its queue.
///
/// Freed in `deinit`, on whichever thread drops the last reference: a client, and every
/// `MessageBatch` that still holds messages of it, keep one, since `rd_kafka_destroy` waits for
/// messages that are out. `rd_kafka_destroy` blocks until librdkafka's threads have ended.
///
/// `@unchecked Sendable`: both pointers are set once in `init`, and librdkafka documents that
/// `rd_kafka_t` and `rd_kafka_queue_t` may be used by any thread. `callbacks` is guarded by itself.
final class ClientHandle: @unchecked Sendable {
  let raw: OpaquePointer
  /// The consumer's queue or the main queue, to poll or to wake.
  let queue: OpaquePointer
  let callbacks: CallbackState
  /// Of a group: see `deinit`.
  private let isMember: Bool

  /// - Parameters:
  ///   - defaults: what this kind of client wants; `configuration` is applied over it.
  ///   - hasGroup: made with `group.id`: the main queue is forwarded to the consumer's, so that
  ///     errors arrive in the same call as messages.
  init(
    _ type: rd_kafka_type_t, _ configuration: KafkaConfiguration, defaults: [(String, String)],
    callbacks: CallbackState, hasGroup: Bool = false
  ) throws(KafkaError) {
    isMember = hasGroup
    var conf: OpaquePointer? = rd_kafka_conf_new()
    // `rd_kafka_new` takes the configuration over when it succeeds, and only then.
    defer { if let conf { rd_kafka_conf_destroy(conf) } }
    for (key, value) in defaults + configuration.properties {
      try Self.set(conf, key, value)
    }
    let properties = configuration.properties
    if !properties.contains(where: { $0.0 == "debug" || $0.0 == "log_level" }) {
      // By default librdkafka prints to stderr, between the lines of our own log; what it prints
      // at that level reaches `error_cb` too. Whoever sets `debug` or `log_level` asks for it.
      rd_kafka_conf_set_log_cb(conf, nil)
    }
    rd_kafka_conf_set_opaque(conf, Unmanaged.passUnretained(callbacks).toOpaque())
    callbacks.register(on: conf, type: type, hasGroup: hasGroup)

    var message = [CChar](repeating: 0, count: 512)
    guard let raw = rd_kafka_new(type, conf, &message, message.count) else {
      // librdkafka's text may quote a value (a path, a PEM error); none of it is a password.
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "open", detail: Self.text(message))
    }
    conf = nil
    self.raw = raw
    self.callbacks = callbacks
    if hasGroup {
      rd_kafka_poll_set_consumer(raw)
      queue = rd_kafka_queue_get_consumer(raw)
    } else {
      queue = rd_kafka_queue_get_main(raw)
    }
  }

  deinit {
    callbacks.beginClosing()
    rd_kafka_queue_destroy(queue)
    if isMember, !callbacks.hasBeenAssigned {
      // librdkafka 2.0.2 aborts the process when it frees a consumer that joined a group and was
      // never assigned anything (`Assertion 'assignor_state' failed`; its issue 4312, mended in
      // 2.3.0). `close` has left the group; the client, which has fetched nothing, stays until the
      // process ends, with what its threads may still call.
      _ = Unmanaged.passRetained(callbacks)
      return
    }
    rd_kafka_destroy(raw)
  }

  static func text(_ buffer: [CChar]) -> String {
    String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func set(
    _ conf: OpaquePointer?, _ key: String, _ value: String
  ) throws(KafkaError) {
    // librdkafka's own text would quote the value, so it is asked for none.
    switch rd_kafka_conf_set(conf, key, value, nil, 0) {
    case RD_KAFKA_CONF_OK: return
    case RD_KAFKA_CONF_UNKNOWN:
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "configure",
        detail: "no such property, or not in this build: \(key)")
    default:
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "configure",
        detail: "value refused for property \(key)")
    }
  }

  /// The underlying error once the client is of no use any more.
  func fatalError(_ operation: String) -> KafkaError? {
    var message = [CChar](repeating: 0, count: 512)
    let code = rd_kafka_fatal_error(raw, &message, message.count)
    guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return nil }
    return KafkaError(
      code: code.rawValue, operation: operation, isFatal: true, detail: Self.text(message))
  }

  /// How many partitions the topic has; nil if no broker knows it (or does not let us see it).
  ///
  /// Asks for all topics and picks one: naming a topic in the request makes brokers with
  /// `auto.create.topics.enable` (the mock cluster too) create it.
  func partitionCount(_ topic: String, timeoutMilliseconds: Int32) throws(KafkaError) -> Int? {
    var metadata: UnsafePointer<rd_kafka_metadata>?
    try check(rd_kafka_metadata(raw, 1, nil, &metadata, timeoutMilliseconds), "metadata", topic)
    defer { rd_kafka_metadata_destroy(metadata) }
    let topics = UnsafeBufferPointer(
      start: metadata!.pointee.topics, count: Int(metadata!.pointee.topic_cnt))
    guard let found = topics.first(where: { String(cString: $0.topic) == topic }) else {
      return nil
    }
    switch found.err {
    case RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE: break
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: return nil
    default: throw KafkaError(found.err, operation: "metadata", detail: topic)
    }
    return found.partition_cnt == 0 ? nil : Int(found.partition_cnt)
  }

  /// Asks the partition's leader for both ends of the log.
  ///
  /// By ListOffsets with the special times -2 and -1: `rd_kafka_query_watermark_offsets` of 2.0.2,
  /// which asks the same, forgets its timeout while the leader is down and blocks for minutes.
  func watermarks(
    _ partition: TopicPartition, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> (low: Int64, high: Int64) {
    let low = try end(
      of: partition, Int64(RD_KAFKA_OFFSET_BEGINNING), timeoutMilliseconds: timeoutMilliseconds)
    let high = try end(
      of: partition, Int64(RD_KAFKA_OFFSET_END), timeoutMilliseconds: timeoutMilliseconds)
    return (low, high)
  }

  private func end(
    of partition: TopicPartition, _ which: Int64, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int64 {
    let list = PartitionList([(partition, which)])
    try check(
      rd_kafka_offsets_for_times(raw, list.raw, timeoutMilliseconds), "watermarks",
      partition.description)
    try check(list.raw.pointee.elems.pointee.err, "watermarks", partition.description)
    let offset = list.raw.pointee.elems.pointee.offset
    guard offset >= 0 else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__NO_OFFSET, operation: "watermarks", detail: partition.description)
    }
    return offset
  }
}
