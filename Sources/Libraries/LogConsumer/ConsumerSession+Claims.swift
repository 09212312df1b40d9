import KafkaTransport
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Claims partitions, and begins to read them where their windows begin.
extension ConsumerSession {
  /// Claims partitions in the store and begins to read them, each from where its window begins.
  func claim(_ found: [(partition: Int32, look: LogLook)], _ consumer: KafkaConsumer) throws {
    guard let connection else { return }
    // A batch never mixes two ownerships of a partition.
    try drain()
    let looks = Dictionary(uniqueKeysWithValues: found.map { ($0.partition, $0.look) })
    let partitions = looks.keys.sorted()
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let claimed = try store.claim(partitions.map { ($0, looks[$0]!.low) }, owner: owner)
    var owned: [OffsetStore.Stored] = []
    let now = Monotonic.milliseconds
    for row in claimed {
      guard let look = looks[row.partition] else { continue }
      // An earlier owner may have stored records since the log was looked at.
      let isAsLookedAt = Self.isSame(row, storedRows[row.partition])
      let wasUnclaimed = (storedRows[row.partition]?.nextOffset ?? -1) < 0
      storedRows[row.partition] = row
      if !isAsLookedAt, !wasUnclaimed {
        machines[row.partition]?.looksAgain(at: now)
      } else if let problem = LogContinuity(
        next: row.nextOffset, remembered: row.lastRecordOffset, look
      ).standstill(next: row.nextOffset) {
        machines[row.partition]?.stopped(problem, at: now)
      } else {
        owned.append(row)
      }
    }
    if owned.isEmpty { return }
    try begin(owned, looks, store, connection, consumer)
  }

  private func begin(
    _ owned: [OffsetStore.Stored], _ looks: [Int32: LogLook], _ store: OffsetStore,
    _ connection: PostgresConnection, _ consumer: KafkaConsumer
  ) throws {
    try store.window(for: owned, configured: settings.dedupeWindowOffsets)
    let producers = try producerStates(owned.map(\.partition), store)
    let inheritance = try WindowInheritance(settings, connection)
    var starts: [(TopicPartition, offset: Int64)] = []
    var begun: [OffsetStore.Stored] = []
    for row in owned {
      pulse.beat()
      let low = looks[row.partition]!.low
      var remembered: (offset: Int64, hash: Int64)?
      if let offset = row.lastRecordOffset, let hash = row.lastRecordHash, offset >= low {
        remembered = (offset, hash)
      }
      let window = row.nextOffset - Int64(settings.dedupeWindowOffsets)
      let readFrom = max(low, min(window, remembered?.offset ?? row.nextOffset))
      epochs[row.partition] = row.logEpoch
      let inherited = inheritance.segments(for: row)
      accumulator.own(
        row.partition, readFrom: inherited.first.map { $0.from + $0.shift } ?? readFrom,
        nextOffset: row.nextOffset,
        windowOffsets: settings.dedupeWindowOffsets, remembered: remembered,
        producers: producers[row.partition] ?? [],
        deadLetters: settings.rules.keepsDeadLetters
          ? try store.deadLetters(of: row, from: readFrom)
            .union(inheritance.deadLetters(inherited, of: row, store)) : [])
      guard try inherit(inherited, inheritance, row.partition) else { continue }
      begun.append(row)
      anchors[row.partition] = remembered
      starts.append((TopicPartition(topic: settings.topic, partition: row.partition), readFrom))
    }
    try processor.own(begun, connection)
    try PartitionHaltStore(connection).clear(
      group: settings.group, topic: settings.topic, partitions: begun.map(\.partition))
    try unassignStopped(consumer)
    try consumer.assign(starts)
    for row in begun { recordedHalts[row.partition] = nil }
    for row in begun {
      machines[row.partition]?.claimed()
      leftAt[row.partition] = row.nextOffset
      reading.insert(row.partition)
    }
    logger.info("partitions claimed", metadata: ["count": .stringConvertible(starts.count)])
    shareChanged()
  }

  /// Fills the window of a partition of a grown topic with what it inherits.
  ///
  /// - Returns: false if the parent cannot be read now. The partition waits.
  private func inherit(
    _ segments: [WindowAncestry.Segment], _ inheritance: WindowInheritance, _ partition: Int32
  ) throws -> Bool {
    do {
      for segment in segments {
        pulse.beat()
        try inheritance.read(segment) { views in
          _ = try accumulator.take(
            views, of: partition, requeues: [], into: batch, resolveImports: registered)
        }
      }
    } catch let error as KafkaError {
      forget(partition)
      machines[partition]?.stopped(
        Standstill(.unreachable, "Kafka does not serve its parent: \(error.summary)"),
        at: Monotonic.milliseconds)
      return false
    }
    if let last = segments.last {
      accumulator.reachedEnd(partition, at: last.to + last.shift)
    }
    return true
  }

  private func producerStates(
    _ partitions: [Int32], _ store: OffsetStore
  ) throws -> [Int32: [ProducerState]] {
    var producers: [Int32: [ProducerState]] = [:]
    for row in try store.producers(partitions, latest: settings.rules.maxProducers) {
      var state = ProducerState(name: Array(row.producer.utf8))
      state.lastOffset = row.lastOffset
      state.sequence = row.sequence
      state.deadSequence = row.deadSequence
      producers[row.partition, default: []].append(state)
    }
    return producers
  }
}
