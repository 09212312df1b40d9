import CRdKafka

/// The kind of one element of a batch.
package enum MessageKind: Sendable, Equatable {
  /// A record of the log. A tombstone is one too (its `value` is nil).
  case record
  /// The partition's end was reached. `offset(i)` is the position, which is the offset of the next
  /// record.
  case endOfPartition
  /// Something went wrong in one partition or in the whole consumer (see `error(i)`).
  case error
}

/// A fixed array of messages that `consume` fills and the caller reads in place.
///
/// One thread owns and uses it. Pointers into it (`value`, `key`, `topicIdentity`, a `RecordView`)
/// are valid until `recycle()`, the next `consume(into:)`, or `deinit`, whichever comes first. The
/// array is allocated once. The messages belong to librdkafka, and `recycle()` destroys them. A
/// batch that holds messages keeps their client alive, because librdkafka's destroy waits for them.
package final class MessageBatch {
  package let capacity: Int
  package private(set) var count = 0
  private let messages: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
  private var owner: ClientHandle?
  private static let touchedBytes = 512
  /// The bytes that `touch` has read. It exists so that the compiler does not remove the reads.
  private var sink: UInt8 = 0

  /// - Parameter capacity: the number of messages, above 0. With 1,000, reading takes 73 to 115 ns
  ///   for each message.
  package init(capacity: Int) {
    precondition(capacity > 0)
    self.capacity = capacity
    messages = .allocate(capacity: capacity)
    messages.initialize(repeating: nil, count: capacity)
  }

  deinit {
    recycle()
    messages.deallocate()
  }

  /// Destroys all messages, so that the batch is empty. O(count).
  package func recycle() {
    for i in 0..<count { rd_kafka_message_destroy(messages[i]) }
    count = 0
    owner = nil
  }

  /// Makes one call to librdkafka.
  ///
  /// - Returns: the number of messages, or -1 if the call failed.
  @discardableResult
  func fill(
    from queue: OpaquePointer, of client: ClientHandle, timeoutMilliseconds: Int32
  ) -> Int {
    recycle()
    let filled = rd_kafka_consume_batch_queue(queue, timeoutMilliseconds, messages, capacity)
    guard filled > 0 else { return filled }
    owner = client
    count = filled
    return filled
  }

  /// Goes through the runs of messages of one partition, including EOFs but not errors.
  ///
  /// It is O(count) and does not allocate.
  /// - Parameters:
  ///   - begin: gets the run's first offset. Messages below the offset that it returns are
  ///     destroyed and removed from the batch.
  ///   - end: gets the position after the rest of the run, if there is a rest.
  func forEachRun(
    begin: (_ topic: OpaquePointer, _ partition: Int32, _ first: Int64) -> Int64,
    end: (_ topic: OpaquePointer, _ partition: Int32, _ next: Int64) -> Void
  ) {
    var topic: OpaquePointer?
    var partition: Int32 = -1
    var keepFrom: Int64 = 0
    var next: Int64 = -1
    var kept = 0
    for i in 0..<count {
      let message = messages[i].unsafelyUnwrapped
      let err = message.pointee.err
      if err == RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR__PARTITION_EOF,
        let messageTopic = message.pointee.rkt
      {
        let offset = message.pointee.offset
        if message.pointee.partition != partition || messageTopic != topic {
          if let topic, next >= 0 { end(topic, partition, next) }
          topic = messageTopic
          partition = message.pointee.partition
          next = -1
          keepFrom = begin(messageTopic, partition, offset)
        }
        if offset < keepFrom {
          rd_kafka_message_destroy(message)
          continue
        }
        // An EOF's offset is the position itself.
        next = err == RD_KAFKA_RESP_ERR_NO_ERROR ? offset + 1 : offset
      }
      messages[kept] = message
      kept += 1
    }
    if let topic, next >= 0 { end(topic, partition, next) }
    count = kept
  }

  @inline(__always)
  private func message(_ i: Int) -> UnsafeMutablePointer<rd_kafka_message_t> {
    precondition(i >= 0 && i < count, "message index out of range")
    return messages[i].unsafelyUnwrapped
  }

  /// Brings the bytes of some records into the cache.
  ///
  /// librdkafka's thread may be far ahead of the caller's thread, so that its records are no longer
  /// in any cache. Reading the bytes of many records in a separate loop lets the waits for memory
  /// overlap.
  package func touch(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "message index out of range")
    var sink: UInt8 = 0
    for i in range {
      let message = messages[i].unsafelyUnwrapped
      // The text of an error is in the same place.
      guard let value = message.pointee.payload else { continue }
      var at = 0
      while at < min(message.pointee.len, Self.touchedBytes) {
        sink ^= value.load(fromByteOffset: at, as: UInt8.self)
        at += 64
      }
    }
    self.sink = sink
  }

  package func kind(_ i: Int) -> MessageKind {
    switch message(i).pointee.err {
    case RD_KAFKA_RESP_ERR_NO_ERROR: .record
    case RD_KAFKA_RESP_ERR__PARTITION_EOF: .endOfPartition
    default: .error
    }
  }

  /// A record with all its parts, without copying them.
  ///
  /// - Precondition: `kind(i) == .record`.
  package func record(_ i: Int) -> RecordView { RecordView(message(i)) }

  package func partition(_ i: Int) -> Int32 { message(i).pointee.partition }

  package func offset(_ i: Int) -> Int64 { message(i).pointee.offset }

  /// The timestamp in milliseconds since 1970, or -1 if there is none. The topic's timestamp type
  /// decides whether it is the record's or the broker's.
  package func timestamp(_ i: Int) -> Int64 { rd_kafka_message_timestamp(message(i), nil) }

  /// A pointer for each topic and consumer that may only be compared. Nil for an error of the whole
  /// consumer.
  package func topicIdentity(_ i: Int) -> OpaquePointer? { message(i).pointee.rkt }

  /// The topic's name, which is allocated. It is empty for an error of the whole consumer.
  package func topicName(_ i: Int) -> String {
    guard let owner, let topic = message(i).pointee.rkt else { return "" }
    return owner.names.here(rd_kafka_topic_name(topic))
  }

  package func topicPartition(_ i: Int) -> TopicPartition {
    TopicPartition(topic: topicName(i), partition: partition(i))
  }

  /// The value, or nil for a tombstone.
  package func value(_ i: Int) -> UnsafeRawBufferPointer? { record(i).value }

  /// The key, or nil for a record without one.
  package func key(_ i: Int) -> UnsafeRawBufferPointer? { record(i).key }

  /// A copy of the last header with that name. Nil if there is none, or if its value is null.
  package func header(_ i: Int, named name: String) -> [UInt8]? { record(i).header(named: name) }

  /// The error. Nil unless `kind(i)` is `.error`.
  package func error(_ i: Int) -> KafkaError? {
    guard kind(i) == .error else { return nil }
    let message = message(i)
    let name = message.pointee.rkt == nil ? "" : topicPartition(i).description + ": "
    let text = rd_kafka_message_errstr(message).map { String(cString: $0) } ?? ""
    return KafkaError(message.pointee.err, operation: "consume", detail: name + text)
  }
}
