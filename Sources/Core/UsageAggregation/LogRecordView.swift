import EventCodec

/// One record of a partition, borrowed from the transport for the length of a batch.
package struct LogRecordView {
  package var offset: Int64
  /// The timestamp in milliseconds. It is negative if there is none.
  package var timestamp: Int64
  package var value: UnsafeRawBufferPointer?
  package var key: UnsafeRawBufferPointer?
  /// The position in the run's list of requeued dead letters, or −1 for an ordinary record.
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

/// The dead letter that a requeued record stands for. Its header `dead-letter` names it as
/// `epoch/topic/partition/offset`.
package struct DeadLetterKey: Hashable, Sendable, CustomStringConvertible {
  package var epoch: Int32
  package var topic: String
  package var partition: Int32
  package var offset: Int64
  /// The SHA-256 of the letter's value, as the store writes it. The place alone does not identify
  /// the letter, because offsets are used again after a log has lost its end.
  package var valueHash = ""

  package init(epoch: Int32, topic: String, partition: Int32, offset: Int64) {
    self.epoch = epoch
    self.topic = topic
    self.partition = partition
    self.offset = offset
  }

  /// Returns nil unless it is spelled exactly as in `description`, because a dead letter has one
  /// name.
  package init?(header: [UInt8]) {
    // PostgreSQL is asked for the topic, and it stores no U+0000.
    guard header.count <= 512, !header.contains(0) else { return nil }
    let parts = String(decoding: header, as: UTF8.self).split(
      separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 4, let epoch = Int32(parts[0]), let partition = Int32(parts[2]),
      let offset = Int64(parts[3])
    else { return nil }
    self.init(epoch: epoch, topic: String(parts[1]), partition: partition, offset: offset)
    guard description.utf8.elementsEqual(header) else { return nil }
  }

  package var description: String { "\(epoch)/\(topic)/\(partition)/\(offset)" }

  /// Whether a record of this topic may stand for the dead letter. The store knows whether the
  /// letter was there before the record.
  package func mayBeRequeued(inEpoch epoch: Int32, topic: String) -> Bool {
    self.topic.utf8.elementsEqual(topic.utf8) && self.epoch <= epoch
  }
}
