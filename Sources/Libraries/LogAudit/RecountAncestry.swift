import KafkaTransport
import PostgresStore
package import Recount

/// What a partition of a grown topic inherits for the recount. It inherits the window and the
/// sequences of the partition that its keys were in before. The aggregator reads only the window
/// from the log, but here the sequences come from the log too.
extension LogRecount {
  /// Feeds the records of the partition's ancestors, oldest first, as far as the log still has
  /// them. They are judged but not counted.
  ///
  /// - Parameters:
  ///   - low: the lowest offset of the partition itself.
  ///   - since: the first offset of the child to feed.
  /// - Returns: the child's offset after the last ancestor's record that cannot be read any more.
  ///   Nil if all can be read.
  package func feedAncestors(
    of partition: Int32, low: Int64, since: Int64? = nil, into recount: inout PartitionRecount
  ) throws -> Int64? {
    var unreadableUpTo: Int64?
    for stretch in ancestors(of: partition) {
      let place = TopicPartition(topic: topic, partition: stretch.partition)
      let log = try reader.watermarks(place)
      if log.low > stretch.from { unreadableUpTo = min(log.low, stretch.to) + stretch.shift }
      let from = max(log.low, stretch.from, since.map { $0 - stretch.shift } ?? 0)
      let to = min(log.high, stretch.to)
      guard from < to else { continue }
      try reader.read(place, from: from, to: to) { view in
        var record = try LogRecord(view, requeues)
        record.partition = partition
        record.offset += stretch.shift
        if record.offset < low { _ = recount.feed(record) }
      }
    }
    return unreadableUpTo
  }

  private struct Stretch {
    var partition: Int32
    var from: Int64
    var to: Int64
    var shift: Int64
  }

  private func ancestors(of partition: Int32) -> [Stretch] {
    var stretches: [Stretch] = []
    var current = partition
    var shift: Int64 = 0
    // The bound protects against rows that contradict each other.
    while stretches.count < 32, let branch = stored.branches[current] {
      shift += branch.firstOffset - branch.parentOffset
      stretches.append(
        Stretch(
          partition: branch.parent, from: stored.branches[branch.parent]?.firstOffset ?? 0,
          to: branch.parentOffset, shift: shift))
      current = branch.parent
    }
    return stretches.reversed()
  }
}
