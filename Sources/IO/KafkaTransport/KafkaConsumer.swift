import CRdKafka

/// One consumer of a group.
///
/// All methods must be called from ONE thread, which owns the partitions' state. Other threads may
/// use only `waker`. A batch must not be read during an assignment, which librdkafka 2.0.2
/// requires.
///
/// The cycle is to call `consume`, to process the batch, and to answer every `takeRebalance()`,
/// `.assigned` with `assign` and `.revoked` with `unassign`. Until librdkafka has its answer, it
/// starts no further rebalance and delivers no message of new partitions. So messages of the old
/// and the new assignment do not mix. Messages of revoked partitions still arrive until `unassign`,
/// and they are still ours (unless `lost`).
///
/// The configuration may replace all of these defaults: no automatic commits or stored offsets,
/// `auto.offset.reset=error`, EOF events, cooperative-sticky, session timeout 6 s,
/// `fetch.wait.max.ms=100`, read_committed, no automatic topics.
package final class KafkaConsumer {
  package enum Rebalance: Sendable, Equatable {
    /// Answer with `assign`. A partition that is left out stays unread until the next rebalance.
    case assigned([TopicPartition])
    /// Answer with `unassign`. If `lost` is true, another consumer may own them already, so write
    /// nothing.
    case revoked([TopicPartition], lost: Bool)
  }

  let handle: ClientHandle
  /// The partitions that are being read, with the offset of the record to deliver next.
  var positions: [TopicPartition: Int64] = [:]
  /// The names by librdkafka's pointer. A pointer is valid as long as one of the topic's partitions
  /// is assigned, so this is emptied at every change of the assignment.
  var topicNames: [OpaquePointer: String] = [:]
  /// See `KafkaConsumer+Continuity.swift`.
  var continuity = Continuity()
  /// Partitions that could not be set to their position (see `takeUnseated`).
  var unseated: [TopicPartition: KafkaError] = [:]
  /// Offsets to commit to Kafka once the group has settled.
  private var uncommitted: [TopicPartition: Int64] = [:]
  /// The rebalance that the caller has taken and not answered yet. `close` then answers it.
  var unanswered: CallbackState.PendingRebalance?
  var isClosed = false

  /// - Throws: `KafkaError` (`_INVALID_ARG`) if a property is refused. Does not wait for a broker.
  package init(
    _ configuration: KafkaConfiguration, group: String, clientID: String
  ) throws(KafkaError) {
    let identity = [("group.id", configuration.names.atBrokers(group)), ("client.id", clientID)]
    handle = try ClientHandle(
      RD_KAFKA_CONSUMER, configuration, defaults: Self.defaults + identity,
      callbacks: CallbackState(configuration.names), hasGroup: true)
  }

  deinit { close() }

  /// Sets the group's subscription and replaces an earlier one. The topics should already exist. A
  /// missing topic is looked for every 5 s.
  package func subscribe(_ topics: [String]) throws(KafkaError) {
    let list = PartitionList(
      topics.map { TopicPartition(topic: $0, partition: -1) }, handle.names)
    try check(rd_kafka_subscribe(handle.raw, list.raw), "subscribe")
  }

  /// Leaves the group but keeps the client. Go on with `consume` and answer the `.revoked` that
  /// follows.
  package func unsubscribe() {
    // This fails only for a client that is closed or has no group.
    _ = rd_kafka_unsubscribe(handle.raw)
  }

  /// Empties the batch, then fills it with up to `capacity` messages.
  ///
  /// - Parameter timeoutMilliseconds: 5 to 20. librdkafka 2.0.2 waits this long unless the batch
  ///   fills up. The method must be called at least every `max.poll.interval.ms` (5 min).
  /// - Returns: the number of messages. It is also 0 if only callbacks were served, or if it was
  ///   woken.
  /// - Throws: a fatal error, after which the consumer cannot be used. Errors of a partition are
  ///   messages of kind `.error`, and errors of brokers are in `takeErrors()`.
  @discardableResult
  package func consume(
    into batch: MessageBatch, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int {
    precondition(!isClosed, "consume after close")
    commitIfSettled()
    let count = batch.fill(
      from: handle.queue, of: handle, timeoutMilliseconds: timeoutMilliseconds)
    if count < 0 {
      throw handle.fatalError("consume")
        ?? KafkaError(RD_KAFKA_RESP_ERR__FAIL, operation: "consume")
    }
    if count == 0, let fatal = handle.fatalError("consume") { throw fatal }
    guard count > 0 else { return 0 }
    try checkContinuity(batch)
    return batch.count
  }

  /// The oldest rebalance that was not taken yet, or nil.
  package func takeRebalance() -> Rebalance? {
    guard let next = handle.callbacks.takeRebalance() else { return nil }
    unanswered = next
    return next.isAssignment
      ? .assigned(next.partitions) : .revoked(next.partitions, lost: next.isLost)
  }

  /// Starts reading each partition at its offset. It may also be called outside of a rebalance for
  /// a partition of this consumer that was left out or unassigned before.
  ///
  /// - Parameter starts: offsets from 0. An offset outside of the log comes back as a message of
  ///   kind `.error` (`isOffsetOutOfRange`). The list may be empty, but the answer must be given
  ///   nevertheless.
  package func assign(_ starts: [(TopicPartition, offset: Int64)]) throws(KafkaError) {
    let retained: [TopicPartition: Int64]
    if isCooperative {
      let list = PartitionList(starts.map { ($0.0, $0.offset) }, handle.names)
      try check(rd_kafka_incremental_assign(handle.raw, list.raw), "assign")
      retained = positions
    } else {
      // The eager protocol takes the whole assignment each time.
      let list = PartitionList(
        positions.map { ($0.key, $0.value) } + starts.map { ($0.0, $0.1) }, handle.names)
      try check(rd_kafka_assign(handle.raw, list.raw), "assign")
      retained = [:]
    }
    for (partition, offset) in starts { positions[partition] = offset }
    unanswered = nil
    assignmentChanged()
    try reseat(retained)
  }

  /// Stops reading these partitions, also after `lost`. Partitions that were never assigned are
  /// ignored, because librdkafka would refuse the whole list and the rebalance would hang.
  package func unassign(_ partitions: [TopicPartition]) throws(KafkaError) {
    // Their next owner commits their offsets.
    for partition in partitions { uncommitted[partition] = nil }
    if isCooperative {
      let list = PartitionList(partitions.filter { positions[$0] != nil }, handle.names)
      try check(rd_kafka_incremental_unassign(handle.raw, list.raw), "unassign")
      for partition in partitions { positions[partition] = nil }
    } else {
      for partition in partitions { positions[partition] = nil }
      // The eager protocol takes the whole assignment each time, and revokes all of it.
      let rest = PartitionList(positions.map { ($0.key, $0.value) }, handle.names)
      try check(rd_kafka_assign(handle.raw, positions.isEmpty ? nil : rest.raw), "unassign")
    }
    unanswered = nil
    assignmentChanged()
    try reseat(positions)
  }

  /// Goes on reading a partition at another offset and skips the records before it.
  package func skip(_ partition: TopicPartition, to offset: Int64) throws(KafkaError) {
    guard positions[partition] != nil else { return }
    positions[partition] = offset
    assignmentChanged()
    try reseat(positions)
  }

  /// The partitions since the last call that librdkafka did not set to their position. Their
  /// messages must not be used. Unassign them, and assign them again at the right position.
  package func takeUnseated() -> [TopicPartition: KafkaError] {
    defer { unseated.removeAll() }
    return unseated
  }

  /// The events since the last call that require a look at the log. Call it after `consume`, before
  /// the batch is used.
  package func takeDoubts() -> LogDoubts { handle.callbacks.doubts.take() }

  /// The partitions that are being read.
  package var assignment: Set<TopicPartition> { Set(positions.keys) }

  /// Asks the partition's leader, and blocks for up to twice the timeout. `low` is the first offset
  /// of the log. `high` is the next offset to be written. With read_committed, while a transaction
  /// is open, it is the first offset that may not be read yet.
  package func watermarks(
    _ partition: TopicPartition, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> (low: Int64, high: Int64) {
    try handle.watermarks(partition, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The high watermark of the last fetch, without a request. Nil for a partition that was not
  /// fetched yet.
  package func cachedHighWatermark(_ partition: TopicPartition) -> Int64? {
    var low: Int64 = 0
    var high: Int64 = 0
    let code = rd_kafka_get_watermark_offsets(
      handle.raw, handle.names.atBrokers(partition.topic), partition.partition, &low, &high)
    return code == RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0 ? high : nil
  }

  /// Blocks for up to the timeout and never creates the topic.
  ///
  /// - Returns: nil if the topic does not exist.
  package func partitionCount(
    _ topic: String, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int? {
    try handle.partitionCount(topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// Why a topic that seems to be missing is not shown to us. Nil if it does not exist. The call
  /// blocks.
  package func refusal(ofTopic topic: String, timeoutMilliseconds: Int32) -> KafkaError? {
    handle.refusal(ofTopic: topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// Commits the group's offsets to Kafka. This is only for the usual lag tools.
  ///
  /// It does not commit while the consumer joins its group. A broker does not read from a
  /// connection on which a member waits for the others. So it would judge the commit later, in
  /// another generation. librdkafka 2.0.2 then gives up all partitions as lost and joins again.
  /// Every commit during that would start the join again, so a group under steady load would never
  /// settle. Offsets that are held back are committed with the next `consume` after the group has
  /// settled.
  package func commitAsync(_ offsets: [(TopicPartition, Int64)]) {
    for (partition, offset) in offsets { uncommitted[partition] = offset }
    commitIfSettled()
  }

  private func commitIfSettled() {
    guard !uncommitted.isEmpty, !handle.callbacks.group.isJoining else { return }
    let list = PartitionList(uncommitted.map { ($0.key, $0.value) }, handle.names)
    uncommitted.removeAll(keepingCapacity: true)
    // Failures do not matter. Start positions come from PostgreSQL and never from here, and the
    // next flush commits a later offset anyway.
    _ = rd_kafka_commit(handle.raw, list.raw, 1)
  }

  /// The errors of the whole client since the last call, such as all brokers down or authentication
  /// refused. Each text occurs once, and only the latest 32 are kept.
  package func takeErrors() -> [KafkaError] { handle.callbacks.takeErrors() }

  /// Any thread can end a `consume` that waits with it.
  package var waker: ConsumerWaker { ConsumerWaker(handle) }

  private var isCooperative: Bool { Self.isCooperative(handle.raw) }

  static func isCooperative(_ client: OpaquePointer) -> Bool {
    // The protocol is NONE before the first join and after the group was left.
    rd_kafka_rebalance_protocol(client).map { String(cString: $0) != "EAGER" } ?? true
  }

  private static let defaults: [(String, String)] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    // Without it, librdkafka would deliver batches that a disk or a network has damaged.
    ("check.crcs", "true"),
    // These lines are never printed. `DoubtCollector` and `GroupState` read them.
    ("debug", "topic,broker,cgrp"),
    ("enable.partition.eof", "true"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1000"),
    // With the default, 500, an event on an idle topic waits 300 to 860 ms at a broker that answers
    // late (measured). With 20, an idle process with 64 partitions takes 0.6 % of a core more.
    ("fetch.wait.max.ms", "100"),
    // The default, 100,000, is empty after 0.1 s at full speed, and 2.0.2 has no
    // fetch.queue.backoff.ms.
    ("queued.min.messages", "1000000"),
    ("queued.max.messages.kbytes", "262144"),
    ("fetch.message.max.bytes", "4194304"),
    ("fetch.max.bytes", "67108864"),
    ("allow.auto.create.topics", "false"),
    ("isolation.level", "read_committed"),
    // A subscribed topic that is missing is found within two of these.
    ("topic.metadata.refresh.interval.ms", "5000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.nagle.disable", "true"),
  ]
}

/// Ends a consumer's wait. It keeps the client alive.
package struct ConsumerWaker: Sendable {
  private let handle: ClientHandle

  init(_ handle: ClientHandle) { self.handle = handle }

  /// Ends the poll that is under way. Any thread may call it at any time, also after `close`.
  package func wake() { rd_kafka_queue_yield(handle.queue) }
}
