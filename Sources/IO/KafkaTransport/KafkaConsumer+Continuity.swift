import CRdKafka
import Foundation

/// The guard against librdkafka 2.0.2 losing records of partitions that stay assigned.
///
/// Every cooperative rebalance, and every incremental (un)assign, pauses and resumes all partitions
/// of the consumer, from librdkafka's own thread. If that happens while a batch is being filled,
/// the records are removed from the batch again, but reading goes on after them. In a measurement
/// this lost 4 to 7 records of two partitions at 2 of 5 rebalances under light load. librdkafka
/// 2.1.0 has fixed it ("intermittently skipping offsets", its pull request 4235). The removal
/// compares version numbers that are not comparable between partitions (4117 added them), so a seek or
/// stop of one partition may affect all. Hence there are two rules:
///
/// 1. After each change of the assignment, all partitions are set to the caller's positions.
/// 2. A partition goes on exactly at its position. A gap may also be real (control records,
///    compaction, deleted records), so it is read once more. A gap that appears again is real.
///
/// `rd_kafka_consumer_poll` loses no records, but it costs three times as much for each message, so
/// it is not used.
extension KafkaConsumer {
  struct Continuity {
    /// Gaps that were seen once, by the offset after them.
    var suspects: [TopicPartition: Int64] = [:]
    /// The number of real gaps since the assignment changed.
    var realGaps = 0
    /// How many gaps were read again. The health page and tests show this number.
    var rereads = 0

    /// A topic with transactions has a gap at each of them. Losses come only with changes of the
    /// assignment, so reading every gap twice would cost more than it protects against.
    static let maximumRealGaps = 64
    static let seekAttempts = 4
  }

  /// How many times partitions were set back because records were missing or in doubt.
  package var rereads: Int { continuity.rereads }

  func assignmentChanged() {
    continuity.suspects.removeAll(keepingCapacity: true)
    continuity.realGaps = 0
    topicNames.removeAll(keepingCapacity: true)
  }

  /// Removes records from the batch that do not follow the delivered ones, so that they are read
  /// again. It costs one look-up for each run of messages.
  func checkContinuity(_ batch: MessageBatch) throws(KafkaError) {
    var gaps: [TopicPartition: Int64] = [:]
    batch.forEachRun(
      begin: { topic, partition, first in
        let key = TopicPartition(topic: name(of: topic), partition: partition)
        // Without a position it is a late message of a partition that is not assigned, which the
        // caller drops. A position below 0 is a logical start.
        guard let expected = positions[key], expected >= 0 else { return 0 }
        // Records below the position were read twice, because of a reread.
        if first <= expected { return expected }
        if gaps[key] != nil { return .max }
        if continuity.suspects[key] == first || continuity.realGaps >= Continuity.maximumRealGaps {
          continuity.suspects[key] = nil
          continuity.realGaps += 1
          return first
        }
        gaps[key] = first
        return .max
      },
      end: { topic, partition, next in
        let key = TopicPartition(topic: name(of: topic), partition: partition)
        guard let index = positions.index(forKey: key) else { return }
        positions.values[index] = next
      })
    guard !gaps.isEmpty else { return }
    continuity.suspects.merge(gaps) { $1 }
    continuity.rereads += 1
    // All partitions are set, not only those with a gap, because one partition's seek can lose
    // records of another.
    try reseat(positions)
  }

  /// Sets these partitions to their positions. Records that were fetched ahead are fetched again.
  func reseat(_ retained: [TopicPartition: Int64]) throws(KafkaError) {
    guard !retained.isEmpty else { return }
    var wanted = retained
    // OUTDATED and similar errors mean that something else, such as a rebalance or a new leader,
    // happened to the partition at the same moment. A partition that stays refused must not be
    // used, but the others may be.
    for attempt in 0..<Continuity.seekAttempts where !wanted.isEmpty {
      if attempt > 0 { usleep(UInt32(attempt) * 20_000) }
      for partition in wanted.keys { unseated[partition] = nil }
      let list = PartitionList(wanted.map { ($0.key, $0.value) }, handle.names)
      if let failed = rd_kafka_seek_partitions(handle.raw, list.raw, 5_000) {
        let error = KafkaError(taking: failed, operation: "seek")
        if error.isFatal { throw error }
      }
      var refused: [TopicPartition: Int64] = [:]
      for element in UnsafeBufferPointer(
        start: list.raw.pointee.elems, count: Int(list.raw.pointee.cnt))
      {
        // STATE means that it has not started yet, so it will start at its assigned offset.
        if element.err == RD_KAFKA_RESP_ERR_NO_ERROR || element.err == RD_KAFKA_RESP_ERR__STATE {
          continue
        }
        let partition = TopicPartition(
          topic: handle.names.here(element.topic), partition: element.partition)
        refused[partition] = wanted[partition]
        unseated[partition] = KafkaError(
          element.err, operation: "seek", detail: partition.description)
      }
      wanted = refused
    }
  }

  private func name(of topic: OpaquePointer) -> String {
    if let known = topicNames[topic] { return known }
    let name = handle.names.here(rd_kafka_topic_name(topic))
    topicNames[topic] = name
    return name
  }
}
