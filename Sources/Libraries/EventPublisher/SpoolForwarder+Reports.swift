import KafkaTransport
import Synchronization

/// The publisher's reports about itself, with the numbers of events that it accepted, that are lost
/// and that wait.
extension SpoolForwarder {
  /// - Returns: whether every topic with something to report was reported.
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
    // If a report does not arrive, the next process's report makes up for it.
    let left = max(deadline.load(ordering: .relaxed) - Self.now, 200)
    if let producer {
      try? producer.flush(timeoutMilliseconds: Int32(clamping: left))
      take(producer)
    }
    producer = nil
    spool.sync()
  }
}
