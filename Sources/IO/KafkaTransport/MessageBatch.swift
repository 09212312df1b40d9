import CRdKafka

/// What one element of a batch is.
package enum MessageKind: Sendable, Equatable {
  /// A record of the log; a tombstone is one too (`value` nil).
  case record
  /// The partition's end was reached; `offset(i)` is the position, the offset of the next record.
  case endOfPartition
  /// Something went wrong in one partition or in the whole consumer; see `error(i)`.
  case error
}

/// A fixed array of messages that `consume` fills and the caller reads in place.
///
/// Owned and used by one thread. Whatever points into it (`value`, `key`, `topicIdentity`, a
/// `RecordView`) is valid until `recycle()`, the next `consume(into:)`, or `deinit`, whichever
/// comes first. The array is allocated once; the messages are librdkafka's, destroyed by
/// `recycle()`. A batch that holds messages keeps their client alive, since librdkafka's destroy
/// waits for them.
package final class MessageBatch {
  package let capacity: Int
  package private(set) var count = 0
  private let messages: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
  private var owner: ClientHandle?
  private static let touchedBytes = 512
  /// What `touch` has read, so that the compiler lets it read.
  private var sink: UInt8 = 0

  /// - Parameter capacity: 1,000 reads at 73 to 115 ns a message; must be above 0.
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

  /// Destroys all messages; the batch is empty then. O(count).
  package func recycle() {
    for i in 0..<count { rd_kafka_message_destroy(messages[i]) }
    count = 0
    owner = nil
  }

  /// One call to librdkafka. - Returns: the number of messages, or -1 if the call failed.
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

  /// Goes through the runs of one partition's messages (EOFs among them, errors not).
  ///
  /// No allocation; O(count).
  /// - Parameters:
  ///   - begin: given the run's first offset; messages below the offset that it returns are
  ///     destroyed and taken out of the batch.
  ///   - end: given the position that the rest of the run leads to, if there is a rest.
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
  /// librdkafka's thread may be far ahead of the caller's thread, and what it fetched then lies
  /// outside of every cache. Reading many records' bytes in a loop of its own lets the waits for
  /// memory overlap.
  package func touch(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "message index out of range")
    var sink: UInt8 = 0
    for i in range {
      let message = messages[i].unsafelyUnwrapped
      // The text of an error lies in the same place.
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

  /// A record with all its parts, without a copy.
  ///
  /// - Precondition: `kind(i) == .record`.
  package func record(_ i: Int) -> RecordView { RecordView(message(i)) }

  package func partition(_ i: Int) -> Int32 { message(i).pointee.partition }

  package func offset(_ i: Int) -> Int64 { message(i).pointee.offset }

  /// Milliseconds since 1970, the record's own or the broker's by the topic's timestamp type;
  /// -1 if it has none.
  package func timestamp(_ i: Int) -> Int64 { rd_kafka_message_timestamp(message(i), nil) }

  /// One pointer a topic and consumer, to be compared, not used. nil for an error of the whole
  /// consumer.
  package func topicIdentity(_ i: Int) -> OpaquePointer? { message(i).pointee.rkt }

  /// Allocates; empty for an error of the whole consumer.
  package func topicName(_ i: Int) -> String {
    guard let owner, let topic = message(i).pointee.rkt else { return "" }
    return owner.names.here(rd_kafka_topic_name(topic))
  }

  package func topicPartition(_ i: Int) -> TopicPartition {
    TopicPartition(topic: topicName(i), partition: partition(i))
  }

  /// nil: a tombstone.
  package func value(_ i: Int) -> UnsafeRawBufferPointer? { record(i).value }

  /// nil: a record without a key.
  package func key(_ i: Int) -> UnsafeRawBufferPointer? { record(i).key }

  /// The last header of that name, copied; nil if there is none, or its value is null.
  package func header(_ i: Int, named name: String) -> [UInt8]? { record(i).header(named: name) }

  /// nil unless `kind(i)` is `.error`.
  package func error(_ i: Int) -> KafkaError? {
    guard kind(i) == .error else { return nil }
    let message = message(i)
    let name = message.pointee.rkt == nil ? "" : topicPartition(i).description + ": "
    let text = rd_kafka_message_errstr(message).map { String(cString: $0) } ?? ""
    return KafkaError(message.pointee.err, operation: "consume", detail: name + text)
  }
}
