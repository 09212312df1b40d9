package import KafkaTransport
import ServiceRuntime

/// How a session leaves Kafka: it closes its client on a thread that nobody needs, because
/// librdkafka 2.0.2 can wait there for ever.
package struct Farewell: Sendable {
  /// How long leaving the group and freeing the client may take.
  package var seconds: Double
  /// How long it may take while the process stops: whoever stops it waits 10 s for all of it.
  static let stoppingSeconds = 4.0
  private let close: @Sendable (KafkaConsumer) -> Void

  package init(
    seconds: Double = 30, close: @escaping @Sendable (KafkaConsumer) -> Void = { $0.close() }
  ) {
    self.seconds = seconds
    self.close = close
  }

  /// - Returns: false if the client did not close within the time. A process that stops anyway has
  ///   left all the same.
  func leave(_ consumer: consuming KafkaConsumer, isStopping: Bool) -> Bool {
    let leaving = Leaving(consumer, close)
    let thread = WorkerThread("kafka-close") { leaving.leave() }
    return thread.join(seconds: isStopping ? min(Self.stoppingSeconds, seconds) : seconds)
      || isStopping
  }
}

/// The last reference to a client, on its way to the thread that frees it.
///
/// `@unchecked Sendable`: made on the consumer's thread, which gives its own reference up, and used
/// by one other thread.
private final class Leaving: @unchecked Sendable {
  private var consumer: KafkaConsumer?
  private let close: @Sendable (KafkaConsumer) -> Void

  init(_ consumer: KafkaConsumer, _ close: @escaping @Sendable (KafkaConsumer) -> Void) {
    self.consumer = consumer
    self.close = close
  }

  func leave() {
    if let consumer { close(consumer) }
    consumer = nil
  }
}
