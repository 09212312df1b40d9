import CRdKafka

/// One record of the log. It is borrowed and valid as long as the batch (or the call) that lends it
/// says.
///
/// It is a copy of a few words of librdkafka's message and allocates nothing.
package struct RecordView {
  package let partition: Int32
  package let offset: Int64
  /// The value, or nil for a tombstone. An empty value is not nil.
  package let value: UnsafeRawBufferPointer?
  /// The key, or nil for a record without one.
  package let key: UnsafeRawBufferPointer?
  /// A pointer that may only be compared. Each client has one for each topic.
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

  /// The timestamp in milliseconds since 1970, or -1 if there is none.
  package var timestamp: Int64 { rd_kafka_message_timestamp(message, nil) }

  /// The topic's name at the brokers, with the prefix of `topic.prefix`. It is allocated.
  package var topicName: String { String(cString: rd_kafka_topic_name(message.pointee.rkt)) }

  /// A copy of the last header with that name. Nil if there is none, or if its value is null.
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

  /// Copies of all headers in the record's order. A null value becomes an empty one.
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
