import KafkaTransport
import PostgresStore
import UsageAggregation

/// Reads what partitions of a grown topic inherit from the partitions that held their keys before.
///
/// It does not use the consumer's assignment, because another process may own the parent. It runs
/// only at an assignment, and only until the partition's own records fill its window.
struct WindowInheritance {
  private let settings: ConsumerSettings
  private let parents: [Int32: WindowAncestry.Parent]

  init(_ settings: ConsumerSettings, _ connection: PostgresConnection) throws {
    self.settings = settings
    parents = Dictionary(
      uniqueKeysWithValues: try GrowthStore(connection, topic: settings.topic)
        .branches(group: settings.group)
        .map {
          (
            $0.partition,
            WindowAncestry.Parent(
              firstOffset: $0.firstOffset, parent: $0.parent, parentOffset: $0.parentOffset)
          )
        })
  }

  /// The segments that must be read before `row` goes on, oldest first.
  func segments(for row: OffsetStore.Stored) -> [WindowAncestry.Segment] {
    WindowAncestry.segments(
      of: row.partition, nextOffset: row.nextOffset, window: settings.dedupeWindowOffsets,
      parents: parents)
  }

  /// The ancestors' dead letters, at the offsets under which the child remembers them. They never
  /// enter a window.
  func deadLetters(
    _ segments: [WindowAncestry.Segment], of row: OffsetStore.Stored, _ store: OffsetStore
  ) throws -> Set<Int64> {
    var found: Set<Int64> = []
    for segment in segments {
      var ancestor = row
      ancestor.partition = segment.partition
      found.formUnion(
        try store.deadLetters(of: ancestor, from: segment.from).map { $0 + segment.shift })
    }
    return found
  }

  /// Passes on the records of one segment, each at the offset under which the child remembers it.
  /// Records that retention has removed are missing, as they are in the parent's own window.
  func read(
    _ segment: WindowAncestry.Segment,
    _ body: (UnsafeBufferPointer<LogRecordView>) throws -> Void
  ) throws {
    let reader = try LogReader(settings.kafka, clientID: "\(settings.group)-window")
    let place = TopicPartition(topic: settings.topic, partition: segment.partition)
    let (low, high) = try reader.watermarks(place)
    let from = max(low, segment.from)
    let to = min(high, segment.to)
    guard from < to else { return }
    try reader.read(place, from: from, to: to) { record in
      let view = LogRecordView(
        offset: record.offset + segment.shift, timestamp: record.timestamp, value: record.value,
        key: record.key)
      try withUnsafePointer(to: view) { try body(UnsafeBufferPointer(start: $0, count: 1)) }
    }
  }
}
