import CRdKafka

/// Leaving the group.
///
/// `rd_kafka_consumer_close` of librdkafka 2.0.2 can wait for ever. As soon as the group has ended
/// within it, librdkafka's thread throws away every request that it has not served, without an
/// answer, and the call that made the request never returns (its issue 4041). Only the rebalance
/// callback makes requests at that time. It runs twice if a rebalance still waits for its delivery,
/// because the end of the subscription adds another one to it. So `close` ends the subscription
/// first and lets the callback answer all rebalances while every request still gets its answer.
extension KafkaConsumer {
  /// Leaves the group immediately, so that others need not wait for the session to time out.
  /// Process the batch, flush and recycle first. It blocks until the group has been left. It may be
  /// called more than once.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    let callbacks = handle.callbacks
    callbacks.answersItself(by: .givingUp)
    // librdkafka waits for the answer to the latest rebalance that was recorded before.
    var latest = unanswered
    while let next = callbacks.takeRebalance() { latest = next }
    if let latest { Self.giveUp(handle.raw, isAssignment: latest.isAssignment) }
    positions = [:]
    unsubscribe()
    serveCallbacks()
    callbacks.answersItself(by: .ending)
    // After an error here (no group, closed already) there is nothing to do.
    _ = rd_kafka_consumer_close(handle.raw)
  }

  /// Lets the callback answer rebalances until the consumer is outside of its group. librdkafka
  /// puts the end of the subscription off while a rebalance is under way, so more than one may
  /// come. Messages are not used any more.
  private func serveCallbacks() {
    let batch = MessageBatch(capacity: 1_000)
    let end = ContinuousClock.now + Self.servingTime
    repeat {
      batch.fill(from: handle.queue, of: handle, timeoutMilliseconds: 5)
      batch.recycle()
    } while !hasLeft && ContinuousClock.now < end
  }

  private var hasLeft: Bool {
    // librdkafka's thread may be between two states. It serves a request only after that.
    handle.callbacks.group.isOutside && isUnassigned && handle.callbacks.group.isOutside
  }

  private var isUnassigned: Bool {
    var assigned: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
    guard rd_kafka_assignment(handle.raw, &assigned) == RD_KAFKA_RESP_ERR_NO_ERROR, let assigned
    else { return true }
    defer { rd_kafka_topic_partition_list_destroy(assigned) }
    return assigned.pointee.cnt == 0
  }

  /// Usually this takes a few milliseconds. A client that takes longer is closed as it is.
  private static let servingTime = Duration.seconds(3)

  /// Answers a rebalance by taking nothing, or by giving up all partitions.
  static func giveUp(_ client: OpaquePointer, isAssignment: Bool) {
    guard isCooperative(client) else {
      _ = rd_kafka_assign(client, nil)
      return
    }
    // Errors cannot be handled, because the client is about to be freed.
    let error: OpaquePointer?
    if isAssignment {
      // Nothing else counts as an answer to an assignment.
      let nothing = rd_kafka_topic_partition_list_new(0)
      defer { rd_kafka_topic_partition_list_destroy(nothing) }
      error = rd_kafka_incremental_assign(client, nothing)
    } else {
      // A list that names a partition that is not assigned would be refused.
      var assigned: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
      guard rd_kafka_assignment(client, &assigned) == RD_KAFKA_RESP_ERR_NO_ERROR, let assigned
      else { return }
      defer { rd_kafka_topic_partition_list_destroy(assigned) }
      error = rd_kafka_incremental_unassign(client, assigned)
    }
    if let error { rd_kafka_error_destroy(error) }
  }
}
