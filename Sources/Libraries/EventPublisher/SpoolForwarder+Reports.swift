import KafkaTransport
import Synchronization

/// What the publisher tells of itself: how many events it accepted, and how many are lost or wait.
extension SpoolForwarder {
  /// - Returns: whether there was a report of each topic that has anything to tell.
  @discardableResult
  func report(isFinal: Bool) -> Bool {
    guard let producer, reportsInFlight == 0 || isFinal else { return false }
    var isWhole = true
    for topic in Spool.topicIndices {
      let counts = spool.counts(topic)
      guard counts.accepted > 0 else { continue }
      guard isKnown(topic, producer) else {
        isWhole = false
        continue
      }
      reports += 1
      encoder.encodeReport(
        producer: spool.producer, number: reports, accepted: counts.accepted,
        pending: counts.pending, dropped: counts.dropped, isFinal: isFinal,
        now: EventPublisher.now)
      let key = Array(spool.producer.utf8)
      let isTaken = key.withUnsafeBytes {
        try? producer.produce(
          topic: topics[topic], key: $0, value: encoder.bytes, opaque: Self.reportOpaque)
      }
      if isTaken == true { reportsInFlight += 1 } else { isWhole = false }
    }
    return isWhole
  }

  func finish() {
    report(isFinal: true)
    // A report that does not arrive is made up for by the next process's.
    let left = max(deadline.load(ordering: .relaxed) - Self.now, 200)
    if let producer {
      try? producer.flush(timeoutMilliseconds: Int32(clamping: left))
      take(producer)
    }
    producer = nil
    spool.sync()
  }
}
