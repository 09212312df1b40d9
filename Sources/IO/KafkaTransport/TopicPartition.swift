import CRdKafka

/// One partition of one topic.
package struct TopicPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
  package var topic: String
  package var partition: Int32

  package init(topic: String, partition: Int32) {
    self.topic = topic
    self.partition = partition
  }

  package var description: String { "\(topic)[\(partition)]" }

  package static func < (a: Self, b: Self) -> Bool {
    a.topic == b.topic ? a.partition < b.partition : a.topic < b.topic
  }
}

/// Both ends of a partition's log, which are its first offset and the next offset to read.
package struct LogEnds: Sendable, Equatable {
  package var low: Int64
  package var high: Int64

  package init(low: Int64, high: Int64) {
    self.low = low
    self.high = high
  }
}

/// Owns a `rd_kafka_topic_partition_list_t`, which is freed in `deinit` on any thread.
struct PartitionList: ~Copyable {
  let raw: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>

  init(_ partitions: some Collection<TopicPartition>, _ names: TopicNames) {
    raw = rd_kafka_topic_partition_list_new(Int32(partitions.count))
    for item in partitions {
      rd_kafka_topic_partition_list_add(raw, names.atBrokers(item.topic), item.partition)
    }
  }

  init(_ starts: [(TopicPartition, Int64)], _ names: TopicNames) {
    raw = rd_kafka_topic_partition_list_new(Int32(starts.count))
    for (item, offset) in starts {
      rd_kafka_topic_partition_list_add(raw, names.atBrokers(item.topic), item.partition)!
        .pointee.offset = offset
    }
  }

  deinit { rd_kafka_topic_partition_list_destroy(raw) }

  /// Copies a list that librdkafka owns.
  static func copy(
    _ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?, _ names: TopicNames
  ) -> [TopicPartition] {
    guard let list else { return [] }
    return UnsafeBufferPointer(start: list.pointee.elems, count: Int(list.pointee.cnt)).map {
      TopicPartition(topic: names.here($0.topic), partition: $0.partition)
    }
  }
}
