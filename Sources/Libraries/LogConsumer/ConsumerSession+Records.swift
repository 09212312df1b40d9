import KafkaTransport
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Takes records from a poll into the open batch.
extension ConsumerSession {
  func takeRecords(_ count: Int) throws {
    var i = 0
    while i < count {
      switch messages.kind(i) {
      case .record:
        let partition = messages.partition(i)
        guard reading.contains(partition) else {
          i += 1
          continue
        }
        i = try takeRun(from: i, count, partition)
      case .endOfPartition:
        try reachedEnd(messages.partition(i), at: messages.offset(i))
        i += 1
      case .error:
        try take(error: i)
        i += 1
      }
    }
  }

  private func reachedEnd(_ partition: Int32, at offset: Int64) throws {
    guard reading.contains(partition) else { return }
    let before = accumulator.position(of: partition)
    accumulator.reachedEnd(partition, at: offset)
    // Control records and aborted records end here too. The offset after them must be stored.
    if before != accumulator.position(of: partition) {
      pacing.endMoved(at: Monotonic.milliseconds)
    }
    try checkHalt(partition)
  }

  /// Takes consecutive records of one partition in one call.
  private func takeRun(from first: Int, _ count: Int, _ partition: Int32) throws -> Int {
    var end = first
    while end < min(first + ConsumerTiming.lookahead, count), messages.kind(end) == .record,
      messages.partition(end) == partition
    {
      end += 1
    }
    messages.touch(first..<end)
    var named = NamedDeadLetters()
    for i in first..<end {
      let record = messages.record(i)
      var view = LogRecordView(
        offset: record.offset, timestamp: record.timestamp, value: record.value, key: record.key)
      // Only the consumer that stores dead letters decides which of them count. Others read such
      // records as ordinary events.
      if settings.rules.keepsDeadLetters, let header = record.header(named: "dead-letter"),
        let key = DeadLetterKey(header: header),
        let epoch = epochs[partition], key.mayBeRequeued(inEpoch: epoch, topic: settings.topic)
      {
        view.requeueIndex = named.add(key, record, epoch: epoch, partition: partition)
      }
      views[i - first] = view
    }
    let n = end - first
    pacing.tookRecord(at: Monotonic.milliseconds)
    let requeues = try named.resolve(connection, UnsafeMutableBufferPointer(start: views, count: n))
    var taken = 0
    while true {
      taken += try accumulator.take(
        UnsafeBufferPointer(start: views + taken, count: n - taken), of: partition,
        requeues: requeues, into: batch, resolveImports: registered)
      try checkHalt(partition)
      if taken == n { return end }
      // The batch is full. It must be flushed before the rest can be taken.
      try awaitFlush()
      try review()
      if batch.isFull {
        try awaitFlush()
        try seal()
      }
    }
  }

  private func take(error i: Int) throws {
    guard let error = messages.error(i), let consumer else { return }
    let partition = messages.partition(i)
    let now = Monotonic.milliseconds
    guard messages.topicIdentity(i) != nil, reading.contains(partition) else {
      if error.isFatal { throw error }
      // The error is from before the partition was stopped. The partition is being checked already.
      if machines[partition] != nil, !error.isAccessRefused { return }
      kafka.met(error, at: now)
      // The topic was gone. A topic that returns under its name may have another log.
      if error.isUnknownTopicOrPartition { doubt(Array(reading)) }
      return
    }
    if error.isBadBatch {
      try badBatch(partition, at: messages.offset(i), error, consumer)
    } else if error.isRetriable || error.isOffsetOutOfRange {
      // Checking the log shows what the error means.
      doubt([partition])
    } else {
      kafka.met(error, at: now)
      if error.isAccessRefused { doubt([partition]) }
    }
  }

  private func badBatch(
    _ partition: Int32, at offset: Int64, _ error: KafkaError, _ consumer: KafkaConsumer
  ) throws {
    if let row = storedRows[partition], offset < row.nextOffset {
      try passOver(offset, of: row, error, consumer)
      return
    }
    // Everything that was read before the bad batch is good.
    try drain()
    guard let position = accumulator.position(of: partition) else { return }
    try stop(
      partition,
      Standstill(
        .badBatch,
        """
        the batch at offset \(position) fails its checksum: a disk or the network has changed it; \
        restore it from another replica, or give it up: meterctl topics accept-gap --partition \
        \(partition) --to OFFSET
        """, offset: position))
  }

  /// Passes over a bad batch below the stored offset, which an operator has given up. The dedupe
  /// window does not know its ids, and is filled with the records after it.
  private func passOver(
    _ offset: Int64, of row: OffsetStore.Stored, _ error: KafkaError, _ consumer: KafkaConsumer
  ) throws {
    logger.warning(
      "a batch in the dedupe window cannot be read and is skipped",
      metadata: [
        "partition": .stringConvertible(row.partition), "offset": .stringConvertible(offset),
        "error": "\(error)",
      ])
    var next = row.nextOffset
    if let last = row.lastRecordOffset, last > offset, passedOver[row.partition] != offset {
      next = last
    }
    passedOver[row.partition] = offset
    try consumer.skip(TopicPartition(topic: settings.topic, partition: row.partition), to: next)
  }

  private func checkHalt(_ partition: Int32) throws {
    guard case .logDiffers(let offset) = accumulator.halt(of: partition) else { return }
    try stopAnotherLog(partition, at: offset)
  }

  func registered(_ names: [Identifier]) throws -> [Identifier: Int64] {
    guard let connection else { return [:] }
    return try ImportStore(connection).oldestTimes(of: names)
  }
}
