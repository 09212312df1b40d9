package import KafkaTransport
import ServiceRuntime

/// Closes a session's client on a separate thread, because librdkafka 2.0.2 can wait there for
/// ever.
package struct Farewell: Sendable {
  /// How long leaving the group and freeing the client may take.
  package var seconds: Double
  /// The time while the process is stopping. Whoever stops it waits 10 s for everything together.
  static let stoppingSeconds = 4.0
  private let close: @Sendable (KafkaConsumer) -> Void

  package init(
    seconds: Double = 30, close: @escaping @Sendable (KafkaConsumer) -> Void = { $0.close() }
  ) {
    self.seconds = seconds
    self.close = close
  }

  /// - Returns: false if the client did not close within the time. If the process is stopping, that
  ///   does not matter.
  func leave(_ consumer: consuming KafkaConsumer, isStopping: Bool) -> Bool {
    let leaving = Leaving(consumer, close)
    let thread = WorkerThread("kafka-close") { leaving.leave() }
    return thread.join(seconds: isStopping ? min(Self.stoppingSeconds, seconds) : seconds)
      || isStopping
  }
}

/// The last reference to a client, on its way to the thread that frees it.
///
/// `@unchecked Sendable`: the consumer's thread makes it and gives up its own reference, and then
/// exactly one other thread uses it.
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
