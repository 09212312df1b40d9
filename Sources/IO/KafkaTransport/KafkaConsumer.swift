import CRdKafka

/// One consumer of a group.
///
/// All methods from ONE thread, the one that owns the partitions' state; only `waker` may be used
/// by others. A batch read never runs beside an assignment: that is what librdkafka 2.0.2 asks for.
///
/// The cycle: `consume`, deal with the batch, then for every `takeRebalance()` answer `.assigned`
/// with `assign` and `.revoked` with `unassign`. librdkafka fires no further rebalance and hands
/// over no message of new partitions until it has its answer, so no message of the old assignment
/// can mix with the new. Until `unassign` of revoked partitions their messages still arrive, and
/// are still ours (unless `lost`).
///
/// Defaults, all of which the configuration may replace: no automatic commits or stored offsets,
/// `auto.offset.reset=error`, EOF events, cooperative-sticky, session timeout 6 s,
/// `fetch.wait.max.ms=100`, read_committed, no automatic topics.
package final class KafkaConsumer {
  package enum Rebalance: Sendable, Equatable {
    /// Answer with `assign`; leaving a partition out leaves it unread until the next rebalance.
    case assigned([TopicPartition])
    /// Answer with `unassign`. `lost`: another consumer may own them already; write nothing.
    case revoked([TopicPartition], lost: Bool)
  }

  let handle: ClientHandle
  /// What is being read, and the offset of the record that the caller is owed next.
  var positions: [TopicPartition: Int64] = [:]
  /// Names by librdkafka's pointer. A pointer holds as long as one of the topic's partitions is
  /// assigned, so this is emptied at every change of the assignment.
  var topicNames: [OpaquePointer: String] = [:]
  /// See `KafkaConsumer+Continuity.swift`.
  var continuity = Continuity()
  /// Partitions that could not be set to their position: see `takeUnseated`.
  var unseated: [TopicPartition: KafkaError] = [:]
  /// Offsets that Kafka is to be told once the group has settled.
  private var uncommitted: [TopicPartition: Int64] = [:]
  /// Taken by the caller and not answered yet, for `close` to answer.
  private var hasUnansweredRebalance = false
  private var isClosed = false

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

  /// The group's subscription; replaces an earlier one. Topics should be there already: one that
  /// is missing is looked for every 5 s.
  package func subscribe(_ topics: [String]) throws(KafkaError) {
    let list = PartitionList(
      topics.map { TopicPartition(topic: $0, partition: -1) }, handle.names)
    try check(rd_kafka_subscribe(handle.raw, list.raw), "subscribe")
  }

  /// Leaves the group but keeps the client. Go on with `consume` and answer the `.revoked` that
  /// follows.
  package func unsubscribe() {
    // Fails only for a client that is closed or has no group, which this one has.
    _ = rd_kafka_unsubscribe(handle.raw)
  }

  /// Empties the batch, then fills it with up to `capacity` messages.
  ///
  /// - Parameter timeoutMilliseconds: waited in full unless the batch fills up (librdkafka 2.0.2):
  ///   5 to 20. Must be called at least every `max.poll.interval.ms` (5 min).
  /// - Returns: the number of messages; 0 also when only callbacks were served or it was woken.
  /// - Throws: a fatal error, after which the consumer is of no use. Errors of a partition are
  ///   messages of kind `.error`; those of brokers are in `takeErrors()`.
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

  /// The oldest rebalance not taken yet, nil if there is none.
  package func takeRebalance() -> Rebalance? {
    guard let next = handle.callbacks.takeRebalance() else { return nil }
    hasUnansweredRebalance = true
    return next.isAssignment
      ? .assigned(next.partitions) : .revoked(next.partitions, lost: next.isLost)
  }

  /// Starts reading each partition at its offset. Also outside a rebalance, for a partition of
  /// this consumer that was left out or unassigned before.
  ///
  /// - Parameter starts: offsets from 0; one outside the log comes back as a message of kind
  ///   `.error` (`isOffsetOutOfRange`). May be empty: the answer must be given all the same.
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
    hasUnansweredRebalance = false
    assignmentChanged()
    try reseat(retained)
  }

  /// Stops reading these partitions, also after `lost`. Those that were never assigned are passed
  /// over (librdkafka would refuse the whole list, and the rebalance would hang).
  package func unassign(_ partitions: [TopicPartition]) throws(KafkaError) {
    // Their next owner tells Kafka where they stand.
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
    hasUnansweredRebalance = false
    assignmentChanged()
    try reseat(positions)
  }

  /// Goes on reading a partition at another offset; what lies before it is passed over.
  package func skip(_ partition: TopicPartition, to offset: Int64) throws(KafkaError) {
    guard positions[partition] != nil else { return }
    positions[partition] = offset
    assignmentChanged()
    try reseat(positions)
  }

  /// Partitions that librdkafka did not set to their position, since the last call. What it hands
  /// over of them must not be used: unassign them, and assign them again at the position wanted.
  package func takeUnseated() -> [TopicPartition: KafkaError] {
    defer { unseated.removeAll() }
    return unseated
  }

  /// What was seen since the last call that calls for a look at the log. To be asked for after
  /// `consume`, before the batch is used.
  package func takeDoubts() -> LogDoubts { handle.callbacks.doubts.take() }

  /// What is being read, in no order.
  package var assignment: Set<TopicPartition> { Set(positions.keys) }

  /// Asks the partition's leader; blocks for up to twice the timeout. `low` is the first offset of
  /// the log; `high` the next one to be written, or, with read_committed while a transaction is
  /// open, the first that may not be read yet.
  package func watermarks(
    _ partition: TopicPartition, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> (low: Int64, high: Int64) {
    try handle.watermarks(partition, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// What the last fetch told, without a request; nil for a partition not fetched yet.
  package func cachedHighWatermark(_ partition: TopicPartition) -> Int64? {
    var low: Int64 = 0
    var high: Int64 = 0
    let code = rd_kafka_get_watermark_offsets(
      handle.raw, handle.names.atBrokers(partition.topic), partition.partition, &low, &high)
    return code == RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0 ? high : nil
  }

  /// Blocks for up to the timeout. - Returns: nil if the topic is missing; never creates it.
  package func partitionCount(
    _ topic: String, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int? {
    try handle.partitionCount(topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// Why a topic that seems to be missing is not shown to us; nil: it is missing. Blocks.
  package func refusal(ofTopic topic: String, timeoutMilliseconds: Int32) -> KafkaError? {
    handle.refusal(ofTopic: topic, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// Tells Kafka where the group stands, only so that the usual lag tools work.
  ///
  /// Not while the consumer joins its group. A broker reads nothing of a connection on which a
  /// member waits for the others, so it would judge the commit after that, when the generation is
  /// another one. librdkafka 2.0.2 then gives up all partitions as lost and joins once more, and
  /// every commit in the midst of that begins it anew: a group under steady load would never come
  /// to rest. What is held back goes with the next `consume` after the group has settled.
  package func commitAsync(_ offsets: [(TopicPartition, Int64)]) {
    for (partition, offset) in offsets { uncommitted[partition] = offset }
    commitIfSettled()
  }

  private func commitIfSettled() {
    guard !uncommitted.isEmpty, !handle.callbacks.group.isJoining else { return }
    let list = PartitionList(uncommitted.map { ($0.key, $0.value) }, handle.names)
    uncommitted.removeAll(keepingCapacity: true)
    // Failures do not matter: start positions come from PostgreSQL, never from here, and the next
    // flush commits a later offset anyway.
    _ = rd_kafka_commit(handle.raw, list.raw, 1)
  }

  /// Errors of the whole client (all brokers down, authentication refused, …) since the last call;
  /// each text once, the latest 32.
  package func takeErrors() -> [KafkaError] { handle.callbacks.takeErrors() }

  /// Ends a `consume` that waits, from any thread.
  package var waker: ConsumerWaker { ConsumerWaker(handle) }

  /// Leaves the group immediately, so that others need not wait for the session to time out. Deal
  /// with the batch, flush and recycle first. Blocks until the group has been left. Idempotent.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    handle.callbacks.beginClosing()
    // librdkafka waits for the answer to a rebalance that was recorded before. While closing it
    // takes an empty assignment for an answer.
    var isPending = hasUnansweredRebalance
    while handle.callbacks.takeRebalance() != nil { isPending = true }
    if isPending { Self.answerAtClose(handle.raw, nil) }
    positions = [:]
    // An error here (no group, closed already) leaves nothing to be done.
    _ = rd_kafka_consumer_close(handle.raw)
  }

  private var isCooperative: Bool { Self.isCooperative(handle.raw) }

  private static func isCooperative(_ client: OpaquePointer) -> Bool {
    // NONE: before the first join, and after the group was left.
    rd_kafka_rebalance_protocol(client).map { String(cString: $0) != "EAGER" } ?? true
  }

  /// Gives everything up. Called by `close` and from the rebalance callback within it.
  static func answerAtClose(
    _ client: OpaquePointer, _ partitions: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
  ) {
    // All partitions that are assigned, since a list that names another would be refused.
    var assigned: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
    guard
      isCooperative(client),
      rd_kafka_assignment(client, &assigned) == RD_KAFKA_RESP_ERR_NO_ERROR, let assigned
    else {
      _ = rd_kafka_assign(client, nil)
      return
    }
    defer { rd_kafka_topic_partition_list_destroy(assigned) }
    // Its error cannot be answered: the client is about to be gone.
    if let error = rd_kafka_incremental_unassign(client, assigned) {
      rd_kafka_error_destroy(error)
    }
  }

  private static let defaults: [(String, String)] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    // Without it librdkafka hands over whatever a disk or a network made of a batch.
    ("check.crcs", "true"),
    // Never printed: read by `DoubtCollector` and `GroupState`.
    ("debug", "topic,broker,cgrp"),
    ("enable.partition.eof", "true"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1000"),
    // The default, 500, makes an event on an idle topic wait 300 to 860 ms at a broker that answers
    // late (measured); 20 costs an idle process with 64 partitions 0.6 % of a core more.
    ("fetch.wait.max.ms", "100"),
    // The default, 100,000, drains in 0.1 s at speed, and 2.0.2 has no fetch.queue.backoff.ms.
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

/// Ends a consumer's wait. Holds the client, which is freed when neither is there any more.
package struct ConsumerWaker: Sendable {
  private let handle: ClientHandle

  init(_ handle: ClientHandle) { self.handle = handle }

  /// Ends the poll under way. Any thread may call it at any time, also after `close`.
  package func wake() { rd_kafka_queue_yield(handle.queue) }
}
