import CRdKafka
import Foundation

/// The guard against librdkafka 2.0.2 losing records of partitions that stay assigned.
///
/// Every cooperative rebalance, and every incremental (un)assign, pauses and resumes all partitions
/// of the consumer, from librdkafka's own thread. If that meets a batch that is being filled, the
/// records are taken out of the batch again, but reading goes on behind them (measured: 4 to 7
/// records of two partitions at 2 of 5 rebalances under light load; fixed in librdkafka 2.1.0,
/// "intermittently skipping offsets", its pull request 4235). What is taken out may be judged by
/// version numbers that are not comparable between partitions (4117 added that comparison), so one
/// partition's seek or stop must be feared for all. Hence two rules:
///
/// 1. After each change of the assignment, all partitions are set to where the caller stands.
/// 2. A partition goes on exactly where it stood. A gap may also be the log's own (control records,
///    compaction, deleted records), so it is read once more: a gap that comes again is real.
///
/// Rejected: `rd_kafka_consumer_poll`, which does not lose any, at three times the cost a message.
extension KafkaConsumer {
  struct Continuity {
    /// Gaps seen once, by the offset behind them.
    var suspects: [TopicPartition: Int64] = [:]
    /// Gaps of the log's own since the assignment changed.
    var realGaps = 0
    /// How many gaps were read again. The health page and tests show it.
    var rereads = 0

    /// A topic with transactions has a gap at each of them; reading each twice would cost more than
    /// it guards against, since losses come with changes of the assignment.
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

  /// Takes out of the batch what does not follow on what was delivered before, and has it read
  /// again. One look-up a run of messages, not a message.
  func checkContinuity(_ batch: MessageBatch) throws(KafkaError) {
    var gaps: [TopicPartition: Int64] = [:]
    batch.forEachRun(
      begin: { topic, partition, first in
        let key = TopicPartition(topic: name(of: topic), partition: partition)
        // Not assigned: a straggler, which the caller drops by itself. Below 0: a logical start.
        guard let expected = positions[key], expected >= 0 else { return 0 }
        // Below: read twice, after a reread.
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
    // All of them, not only those with a gap: one partition's seek can take records of another.
    try reseat(positions)
  }

  /// Sets these partitions to their positions; what was fetched ahead is fetched again.
  func reseat(_ retained: [TopicPartition: Int64]) throws(KafkaError) {
    guard !retained.isEmpty else { return }
    var wanted = retained
    // OUTDATED and the like: something else (a rebalance, a new leader) was done to the partition
    // in the same moment. One that stays refused is not ours to use; the others are.
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
        // STATE: not started yet, so it will start at the offset it was assigned with.
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
