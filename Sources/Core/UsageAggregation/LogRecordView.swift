import EventCodec

/// One record of a partition, borrowed from the transport for the length of a batch.
package struct LogRecordView {
  package var offset: Int64
  /// Milliseconds; negative: none.
  package var timestamp: Int64
  package var value: UnsafeRawBufferPointer?
  package var key: UnsafeRawBufferPointer?
  /// Position in the run's list of requeued dead letters, or −1: an ordinary record.
  package var requeueIndex: Int32

  @inline(__always)
  package init(
    offset: Int64, timestamp: Int64, value: UnsafeRawBufferPointer?,
    key: UnsafeRawBufferPointer?, requeueIndex: Int32 = -1
  ) {
    self.offset = offset
    self.timestamp = timestamp
    self.value = value
    self.key = key
    self.requeueIndex = requeueIndex
  }

  var bytes: RecordBytes { RecordBytes(value: value, key: key, timestamp: timestamp) }
}

/// Which dead letter a requeued record stands for: the value of its header `dead-letter`, `epoch/topic/partition/offset`.
package struct DeadLetterKey: Hashable, Sendable {
  package var epoch: Int32
  package var topic: String
  package var partition: Int32
  package var offset: Int64

  package init(epoch: Int32, topic: String, partition: Int32, offset: Int64) {
    self.epoch = epoch
    self.topic = topic
    self.partition = partition
    self.offset = offset
  }

  package init?(header: [UInt8]) {
    let parts = String(decoding: header, as: UTF8.self).split(
      separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 4, let epoch = Int32(parts[0]), let partition = Int32(parts[2]),
      let offset = Int64(parts[3])
    else { return nil }
    self.init(epoch: epoch, topic: String(parts[1]), partition: partition, offset: offset)
  }
}
