import CRdKafka
import Synchronization

/// An idempotent producer.
///
/// Any thread may use it. `onDelivery` is called on the thread that calls `poll` or `flush`.
///
/// The configuration may replace all of these defaults: `enable.idempotence`, `acks=all`,
/// `murmur2_random` (Java's partitioner, which spreads records without a key at random), zstd,
/// `linger.ms=10`, batches of 1 MB, and no delivery timeout. An accepted record is tried until it
/// is delivered, finally refused, or the producer is freed.
///
/// `@unchecked Sendable`: `handle` is Sendable and set once; `topics` holds pointers that are only
/// read and written under its lock, and `rd_kafka_topic_t` may be used by any thread.
package final class KafkaProducer: @unchecked Sendable {
  /// The outcome of one record.
  package struct Delivery: Sendable {
    /// The number that was given to `produce`.
    package let opaque: UInt
    package let partition: Int32
    /// The offset, or -1001 if it is unknown because the broker had already stored a retried
    /// record.
    package let offset: Int64
    /// Nil if all in-sync replicas have stored the record.
    package let error: KafkaError?
  }

  /// It must not block or call `flush`. It may call `produce`.
  package typealias DeliveryHandler = @Sendable (Delivery) -> Void

  private let handle: ClientHandle
  private let topics = Mutex<[String: UInt]>([:])

  /// - Throws: `KafkaError` (`_INVALID_ARG`) if a property is refused. Does not wait for a broker.
  package init(
    _ configuration: KafkaConfiguration, clientID: String, onDelivery: DeliveryHandler? = nil
  ) throws(KafkaError) {
    handle = try ClientHandle(
      RD_KAFKA_PRODUCER, configuration, defaults: Self.defaults + [("client.id", clientID)],
      callbacks: CallbackState(configuration.names, onDelivery: onDelivery))
  }

  /// Records that are still queued are dropped without a report, so call `flush` first.
  deinit {
    // Only `flush` waits for deliveries. Without this, librdkafka's destroy would wait for ever.
    _ = rd_kafka_purge(handle.raw, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT)
    topics.withLock { topics in
      for bits in topics.values { rd_kafka_topic_destroy(OpaquePointer(bitPattern: bits)) }
    }
  }

  /// Queues one record and never blocks. Key, value and headers are copied before it returns.
  ///
  /// - Parameters:
  ///   - partition: nil chooses the partition by the key's hash.
  ///   - key: nil for no key. An empty buffer is an empty key.
  ///   - value: nil for a tombstone. An empty buffer is an empty value.
  ///   - timestamp: milliseconds since 1970, above 0, or nil for now. Topics with LogAppendTime
  ///     ignore it.
  ///   - opaque: a number that comes back in the delivery.
  /// - Returns: false if the local queue is full (`queue.buffering.max.messages`, `…kbytes`). Then
  ///   call `poll` and try again.
  /// - Throws: an error if the record is too large, the partition is unknown, or the producer
  ///   cannot be used any more.
  package func produce(
    topic: String, partition: Int32? = nil, key: UnsafeRawBufferPointer?,
    value: UnsafeRawBufferPointer?, headers: [(String, [UInt8])] = [], timestamp: Int64? = nil,
    opaque: UInt = 0
  ) throws(KafkaError) -> Bool {
    let rkt = try topicHandle(topic)
    let argumentCount = 6 + (timestamp == nil ? 0 : 1) + (headers.isEmpty ? 0 : 1)
    // librdkafka frees the list if it accepts the message. If it refuses, we must free it.
    let list = headers.isEmpty ? nil : Self.headerList(headers)
    let error = withUnsafeTemporaryAllocation(of: rd_kafka_vu_t.self, capacity: argumentCount) {
      arguments -> OpaquePointer? in
      let base = UnsafeMutableRawPointer(arguments.baseAddress!)
      // Each union is written field by field at the union's offset, because initializing whole
      // values would copy 72 bytes eight times.
      func put<T>(_ i: Int, _ type: rd_kafka_vtype_t, _ field: T, at shift: Int = 0) {
        let element = base + i * MemoryLayout<rd_kafka_vu_t>.stride
        element.storeBytes(of: type, as: rd_kafka_vtype_t.self)
        (element + Self.unionOffset + shift).storeBytes(of: field, as: T.self)
      }
      put(0, RD_KAFKA_VTYPE_RKT, rkt)
      put(1, RD_KAFKA_VTYPE_PARTITION, partition ?? RD_KAFKA_PARTITION_UA)
      put(2, RD_KAFKA_VTYPE_MSGFLAGS, Int32(RD_KAFKA_MSG_F_COPY))
      put(3, RD_KAFKA_VTYPE_KEY, Self.start(key))
      put(3, RD_KAFKA_VTYPE_KEY, key?.count ?? 0, at: 8)
      put(4, RD_KAFKA_VTYPE_VALUE, Self.start(value))
      put(4, RD_KAFKA_VTYPE_VALUE, value?.count ?? 0, at: 8)
      put(5, RD_KAFKA_VTYPE_OPAQUE, opaque)
      var next = 6
      if let timestamp {
        put(next, RD_KAFKA_VTYPE_TIMESTAMP, timestamp)
        next += 1
      }
      if let list { put(next, RD_KAFKA_VTYPE_HEADERS, list) }
      return rd_kafka_produceva(handle.raw, arguments.baseAddress, argumentCount)
    }
    guard let error else { return true }
    if let list { rd_kafka_headers_destroy(list) }
    if rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__QUEUE_FULL {
      rd_kafka_error_destroy(error)
      return false
    }
    throw KafkaError(taking: error, operation: "produce")
  }

  /// Serves deliveries and errors. It waits up to the timeout for the first of them.
  @discardableResult
  package func poll(timeoutMilliseconds: Int32) -> Int {
    Int(rd_kafka_poll(handle.raw, timeoutMilliseconds))
  }

  /// The number of records that are not delivered yet, and of deliveries and errors that `poll` has
  /// not served yet.
  package var queued: Int { Int(rd_kafka_outq_len(handle.raw)) }

  /// Sends queued records without lingering, and serves deliveries until none is left.
  ///
  /// - Throws: `isTimeout` if some records are left. They stay queued.
  package func flush(timeoutMilliseconds: Int32) throws(KafkaError) {
    try check(rd_kafka_flush(handle.raw, timeoutMilliseconds), "flush")
  }

  /// The errors that callbacks have reported since the last call. `poll` and `flush` collect them.
  package func takeErrors() -> [KafkaError] { handle.callbacks.takeErrors() }

  /// The fatal error that ended this producer, if there is one.
  package var fatalError: KafkaError? { handle.fatalError("produce") }

  /// Blocks for up to the timeout and never creates the topic.
  ///
  /// - Returns: nil if the topic does not exist.
  package func partitionCount(
    _ topic: String, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int? {
    try handle.partitionCount(topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The reason why a topic that seems to be missing is not shown to this client.
  package func refusal(ofTopic topic: String, timeoutMilliseconds: Int32) -> KafkaError? {
    handle.refusal(ofTopic: topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The error that explains another one best, such as a refused password in place of a missing
  /// broker. It serves deliveries.
  package func explained(_ error: KafkaError) -> KafkaError { handle.explained(error) }

  private func topicHandle(_ topic: String) throws(KafkaError) -> OpaquePointer {
    let bits = topics.withLock { topics -> UInt in
      if let known = topics[topic] { return known }
      guard let made = rd_kafka_topic_new(handle.raw, handle.names.atBrokers(topic), nil) else {
        return 0
      }
      topics[topic] = UInt(bitPattern: made)
      return UInt(bitPattern: made)
    }
    guard let rkt = OpaquePointer(bitPattern: bits) else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "produce",
        detail: "librdkafka refuses the topic's name")
    }
    return rkt
  }

  /// The union's offset in `rd_kafka_vu_t`, after the 4 bytes of `vtype`, aligned to a pointer.
  private static let unionOffset = MemoryLayout<rd_kafka_vu_t>.offset(of: \.u)!

  /// A pointer that is NULL only for nil. Swift's empty buffers may have no pointer, but NULL means
  /// a null key or a tombstone.
  private static func start(_ bytes: UnsafeRawBufferPointer?) -> UnsafeRawPointer? {
    guard let bytes else { return nil }
    return bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)
  }

  private static func headerList(_ headers: [(String, [UInt8])]) -> OpaquePointer {
    let list = rd_kafka_headers_new(headers.count)!
    for (name, value) in headers {
      // This fails only for a read-only list of headers.
      _ = value.withUnsafeBytes {
        rd_kafka_header_add(list, name, -1, start($0), $0.count)
      }
    }
    return list
  }

  private static let defaults: [(String, String)] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    ("compression.type", "zstd"),
    ("linger.ms", "10"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.messages", "1000000"),
    ("queue.buffering.max.kbytes", "524288"),
    // 0 means no limit, because a record of the spool must not be given up after some time.
    ("message.timeout.ms", "0"),
    // A topic is only made from its file, with its partitions.
    ("allow.auto.create.topics", "false"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.nagle.disable", "true"),
  ]
}
