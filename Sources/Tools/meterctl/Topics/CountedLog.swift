import KafkaTransport
import PostgresStore
import UsageAggregation

/// What each group that has counted a topic knows about its log.
struct CountedLog {
  private(set) var lows: [Int32: Int64] = [:]
  private(set) var partitions: [CountedPartitionLog] = []

  /// Reads the last counted record of every partition whose log still reaches back to it.
  init(
    topic: String, groups: [String], partitions: [Int32], _ database: PostgresConnection,
    _ reader: LogReader
  ) throws {
    var highs: [Int32: Int64] = [:]
    for partition in partitions {
      let ends = try reader.watermarks(TopicPartition(topic: topic, partition: partition))
      lows[partition] = ends.low
      highs[partition] = ends.high
    }
    for group in groups {
      let stored = try OffsetStore(database, group: group, topic: topic).stored(partitions)
      var looks: [Int32: LogLook] = [:]
      var hashes: [Int32: Int64] = [:]
      var ranges: [LogReader.Range] = []
      for row in stored {
        guard let low = lows[row.partition], let high = highs[row.partition] else { continue }
        looks[row.partition] = LogLook(low: low, high: high, identity: .unknown)
        guard let offset = row.lastRecordOffset, let hash = row.lastRecordHash, offset >= low,
          offset < high
        else { continue }
        looks[row.partition]?.identity = .differs
        hashes[row.partition] = hash
        ranges.append(
          .init(
            TopicPartition(topic: topic, partition: row.partition), from: offset, to: offset + 1))
      }
      try reader.readAll(ranges) { record in
        let view = LogRecordView(
          offset: record.offset, timestamp: record.timestamp, value: record.value, key: record.key)
        if KeyedHash.fingerprint(of: view) == hashes[record.partition] {
          looks[record.partition]?.identity = .same
        }
      }
      for row in stored {
        guard let look = looks[row.partition] else { continue }
        self.partitions.append(
          CountedPartitionLog(
            group: group, partition: row.partition, next: row.nextOffset,
            remembered: row.lastRecordHash == nil ? nil : row.lastRecordOffset, look))
      }
    }
  }
}
