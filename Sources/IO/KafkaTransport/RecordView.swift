import CRdKafka

/// One record of the log, lent: valid as long as the batch (or the call) that lends it says.
///
/// A copy of a few words of librdkafka's message; makes and keeps nothing.
package struct RecordView {
  package let partition: Int32
  package let offset: Int64
  /// nil: a tombstone. An empty value is not nil.
  package let value: UnsafeRawBufferPointer?
  /// nil: a record without a key.
  package let key: UnsafeRawBufferPointer?
  /// A pointer that is only compared: each client has one for each topic.
  package let topicIdentity: OpaquePointer
  private let message: UnsafeMutablePointer<rd_kafka_message_t>

  @inline(__always)
  init(_ message: UnsafeMutablePointer<rd_kafka_message_t>) {
    precondition(message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR, "not a record")
    self.message = message
    partition = message.pointee.partition
    offset = message.pointee.offset
    value = message.pointee.payload.map {
      UnsafeRawBufferPointer(start: $0, count: message.pointee.len)
    }
    key = message.pointee.key.map {
      UnsafeRawBufferPointer(start: $0, count: message.pointee.key_len)
    }
    topicIdentity = message.pointee.rkt
  }

  /// Milliseconds since 1970; -1 if it has none.
  package var timestamp: Int64 { rd_kafka_message_timestamp(message, nil) }

  /// Allocates. As the brokers call it, with the prefix of `topic.prefix`.
  package var topicName: String { String(cString: rd_kafka_topic_name(message.pointee.rkt)) }

  /// The last header of that name, copied; nil if there is none, or its value is null.
  package func header(named name: String) -> [UInt8]? {
    var headers: OpaquePointer?
    guard rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR else {
      return nil
    }
    var bytes: UnsafeRawPointer?
    var size = 0
    guard
      rd_kafka_header_get_last(headers, name, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let bytes
    else { return nil }
    return [UInt8](UnsafeRawBufferPointer(start: bytes, count: size))
  }

  /// All headers in the record's order, copied; a null value is an empty one.
  package var headers: [(name: String, value: [UInt8])] {
    var headers: OpaquePointer?
    guard rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR else {
      return []
    }
    var all: [(name: String, value: [UInt8])] = []
    var name: UnsafePointer<CChar>?
    var bytes: UnsafeRawPointer?
    var size = 0
    while rd_kafka_header_get_all(headers, all.count, &name, &bytes, &size)
      == RD_KAFKA_RESP_ERR_NO_ERROR, let name
    {
      let value = bytes.map { [UInt8](UnsafeRawBufferPointer(start: $0, count: size)) } ?? []
      all.append((String(cString: name), value))
    }
    return all
  }
}
