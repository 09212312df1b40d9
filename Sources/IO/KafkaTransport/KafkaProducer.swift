import CRdKafka
import Synchronization

/// An idempotent producer.
///
/// Any thread may use it; `onDelivery` is called on the thread that calls `poll` or `flush`.
///
/// Defaults, all of which the configuration may replace: `enable.idempotence`, `acks=all`,
/// `murmur2_random` (Java's partitioner; records without a key are spread at random), zstd,
/// `linger.ms=10`, batches of 1 MB, no delivery timeout: a record that was accepted is tried until
/// it is delivered, finally refused, or the producer is freed.
///
/// `@unchecked Sendable`: `handle` is Sendable and set once; `topics` holds pointers that are only
/// read and written under its lock, and `rd_kafka_topic_t` may be used by any thread.
package final class KafkaProducer: @unchecked Sendable {
  /// What became of one record.
  package struct Delivery: Sendable {
    /// The number that was given to `produce`.
    package let opaque: UInt
    package let partition: Int32
    /// -1001 if unknown: a retry of an idempotent producer that the broker had stored already.
    package let offset: Int64
    /// nil: stored by all in-sync replicas.
    package let error: KafkaError?
  }

  /// Must not block, nor call `flush`; it may call `produce`.
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

  /// Records still queued are dropped, without a report: `flush` first.
  deinit {
    // Only `flush` waits for deliveries; librdkafka's destroy would, without end.
    _ = rd_kafka_purge(handle.raw, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT)
    topics.withLock { topics in
      for bits in topics.values { rd_kafka_topic_destroy(OpaquePointer(bitPattern: bits)) }
    }
  }

  /// Queues one record; key, value and headers are copied before it returns. Never blocks.
  ///
  /// - Parameters:
  ///   - partition: nil: by the key's hash.
  ///   - key: nil: no key; an empty buffer is an empty key.
  ///   - value: nil: a tombstone; an empty buffer is an empty value.
  ///   - timestamp: milliseconds since 1970, above 0; nil: now. Ignored by LogAppendTime topics.
  ///   - opaque: comes back in the delivery.
  /// - Returns: false if the local queue is full (`queue.buffering.max.messages`, `…kbytes`):
  ///   `poll`, then try again.
  /// - Throws: the record is too large, the partition is unknown, or the producer is beyond help.
  package func produce(
    topic: String, partition: Int32? = nil, key: UnsafeRawBufferPointer?,
    value: UnsafeRawBufferPointer?, headers: [(String, [UInt8])] = [], timestamp: Int64? = nil,
    opaque: UInt = 0
  ) throws(KafkaError) -> Bool {
    let rkt = try topicHandle(topic)
    let argumentCount = 6 + (timestamp == nil ? 0 : 1) + (headers.isEmpty ? 0 : 1)
    // librdkafka frees the list when it takes the message, and leaves it to us when it refuses.
    let list = headers.isEmpty ? nil : Self.headerList(headers)
    let error = withUnsafeTemporaryAllocation(of: rd_kafka_vu_t.self, capacity: argumentCount) {
      arguments -> OpaquePointer? in
      let base = UnsafeMutableRawPointer(arguments.baseAddress!)
      // The memory of each union is written by field, at the union's offset: initializing whole
      // values would copy 72 bytes eight times over.
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

  /// Serves deliveries and errors; waits up to the timeout for the first of them.
  @discardableResult
  package func poll(timeoutMilliseconds: Int32) -> Int {
    Int(rd_kafka_poll(handle.raw, timeoutMilliseconds))
  }

  /// Records not delivered yet, and deliveries and errors not served yet: `poll` serves them.
  package var queued: Int { Int(rd_kafka_outq_len(handle.raw)) }

  /// Sends what is queued without lingering, and serves deliveries until none is left.
  /// - Throws: `isTimeout` if some are left; they stay queued.
  package func flush(timeoutMilliseconds: Int32) throws(KafkaError) {
    try check(rd_kafka_flush(handle.raw, timeoutMilliseconds), "flush")
  }

  /// The errors that callbacks told since the last call. `poll` and `flush` collect them.
  package func takeErrors() -> [KafkaError] { handle.callbacks.takeErrors() }

  /// The fatal error that ended this producer, if there is one.
  package var fatalError: KafkaError? { handle.fatalError("produce") }

  /// Blocks for up to the timeout. - Returns: nil if the topic is missing; never creates it.
  package func partitionCount(
    _ topic: String, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int? {
    try handle.partitionCount(topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The reason why a topic that seems to be missing is not shown to this client.
  package func refusal(ofTopic topic: String, timeoutMilliseconds: Int32) -> KafkaError? {
    handle.refusal(ofTopic: topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The error that explains another one best, e.g. a refused password for a missing broker. Serves
  /// deliveries.
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

  /// The union's place in `rd_kafka_vu_t`: after the 4 bytes of `vtype`, aligned to a pointer.
  private static let unionOffset = MemoryLayout<rd_kafka_vu_t>.offset(of: \.u)!

  /// A pointer that is NULL only for nil: Swift's empty buffers may have none, and NULL means a
  /// null key or a tombstone.
  private static func start(_ bytes: UnsafeRawBufferPointer?) -> UnsafeRawPointer? {
    guard let bytes else { return nil }
    return bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)
  }

  private static func headerList(_ headers: [(String, [UInt8])]) -> OpaquePointer {
    let list = rd_kafka_headers_new(headers.count)!
    for (name, value) in headers {
      // Fails only for a header list that is read-only.
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
    // 0 is infinite: what the spool handed over must not be given up by a clock.
    ("message.timeout.ms", "0"),
    // A topic is made by its file, with its partitions, or not at all.
    ("allow.auto.create.topics", "false"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.nagle.disable", "true"),
  ]
}
