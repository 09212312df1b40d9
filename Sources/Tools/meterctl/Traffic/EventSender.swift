import Glibc
import KafkaTransport
import Synchronization

/// Sends records to one topic, waits while Kafka is slow or unavailable, and knows what was
/// acknowledged. One thread uses it.
final class EventSender {
  enum Kind: UInt {
    /// Events, which reports account for.
    case event = 1
    case other
  }

  /// Written by the delivery handler, which runs inside `poll` and `flush`.
  private final class Ledger: Sendable {
    let acknowledgedEvents = Atomic<Int64>(0)
    let failedEvents = Atomic<Int64>(0)
    let answered = Atomic<Int64>(0)
    let firstError = Mutex<KafkaError?>(nil)
  }

  let topic: String
  private let producer: KafkaProducer
  private let ledger = Ledger()
  private let progress: Progress
  private let clock = ContinuousClock()
  /// The time and the number of the last answers. If records wait and no answer comes for
  /// `patience`, the sender says so.
  private var lastAnswer: ContinuousClock.Instant
  private var lastAnswered: Int64 = 0
  private var isWaiting = false
  private var lastError: KafkaError?
  private var handed: Int64 = 0

  private static let patience: Duration = .seconds(3)

  /// Waits until the cluster is available.
  ///
  /// - Parameter stopsAtRefusal: Nothing of a partition is delivered behind a record that the
  ///   brokers refuse permanently, and nothing can be sent after it. This is for senders that are
  ///   continued with the same sequences, because the aggregator takes a record for counted if it
  ///   has seen a later sequence.
  /// - Returns: nil if it was interrupted meanwhile.
  /// - Throws: `Failure` if the topic is missing, because a broker might create it with another
  ///   number of partitions.
  init?(
    _ configuration: KafkaConfiguration, topic: String, command: String,
    stopsAtRefusal: Bool = false, progress: Progress
  ) throws {
    var configuration = configuration
    if stopsAtRefusal {
      configuration.insist("enable.idempotence", "true")
      configuration.insist("enable.gapless.guarantee", "true")
      // The first batch that a broker gets from a producer may have any sequence. The second batch
      // of a partition must therefore wait for the answer to the first one.
      configuration.insist("max.in.flight", "1")
    }
    // Enough to keep every broker busy. It also limits the memory and the duration of the final
    // flush.
    configuration.set("queue.buffering.max.messages", "300000")
    configuration.set("queue.buffering.max.kbytes", "262144")
    let ledger = ledger
    producer = try KafkaProducer(configuration, clientID: Connections.clientID(command)) {
      delivery in
      ledger.answered.wrappingAdd(1, ordering: .relaxed)
      if let error = delivery.error {
        // What a broker says explains more than librdkafka's errors for the records behind it.
        ledger.firstError.withLock { first in
          if first.map({ $0.code < 0 && error.code > 0 }) ?? true { first = error }
        }
        if delivery.opaque == Kind.event.rawValue {
          ledger.failedEvents.wrappingAdd(1, ordering: .relaxed)
        }
      } else if delivery.opaque == Kind.event.rawValue {
        ledger.acknowledgedEvents.wrappingAdd(1, ordering: .relaxed)
      }
    }
    self.topic = topic
    self.progress = progress
    lastAnswer = clock.now
    guard try waitForTopic() else { return nil }
    lastAnswer = clock.now
  }

  var acknowledgedEvents: Int64 { ledger.acknowledgedEvents.load(ordering: .relaxed) }
  /// Events that the brokers refused permanently.
  var failedEvents: Int64 { ledger.failedEvents.load(ordering: .relaxed) }
  var firstError: KafkaError? { ledger.firstError.withLock { $0 } ?? producer.fatalError }
  /// The note for the progress line.
  var note: String { isWaiting ? "waiting for Kafka" : "" }

  /// Queues one record. Waits while the queue is full.
  ///
  /// - Returns: false if it was interrupted before the record was queued.
  func send(
    _ kind: Kind, key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?
  ) throws -> Bool {
    while true {
      if try producer.produce(topic: topic, key: key, value: value, opaque: kind.rawValue) { break }
      try poll(milliseconds: 50)
      if Interrupt.isRequested, isWaiting { return false }
    }
    handed += 1
    if handed & 1_023 == 0 { try poll() }
    return true
  }

  /// Serves acknowledgements. Waits up to `milliseconds` for the first one.
  func poll(milliseconds: Int32 = 0) throws {
    producer.poll(timeoutMilliseconds: milliseconds)
    try watch()
  }

  /// Waits until everything is acknowledged, however long Kafka is unavailable. A second signal
  /// ends the process.
  func flush(_ whileWaiting: () -> Void = {}) throws {
    while true {
      do throws(KafkaError) {
        try producer.flush(timeoutMilliseconds: 200)
        return
      } catch {
        guard error.isTimeout else { throw error }
      }
      try watch()
      whileWaiting()
    }
  }

  private func watch() throws {
    let answered = ledger.answered.load(ordering: .relaxed)
    let now = clock.now
    if answered != lastAnswered || producer.queued == 0 {
      lastAnswered = answered
      lastAnswer = now
      if isWaiting { progress.say("Kafka answers again") }
      isWaiting = false
      return
    }
    guard !isWaiting, lastAnswer.duration(to: now) > Self.patience else { return }
    if let fatal = producer.fatalError { throw fatal }
    isWaiting = true
    sayWaiting(producer.takeErrors().last)
  }

  private func sayWaiting(_ error: KafkaError?) {
    progress.say(
      """
      Kafka does not answer\(error.map { " (\($0))" } ?? ""): waiting, and nothing is lost; \
      METER_KAFKA_BROKERS must name running brokers
      """)
  }

  private func waitForTopic() throws -> Bool {
    while !Interrupt.isRequested {
      do {
        guard try producer.partitionCount(topic, timeoutMilliseconds: 3_000) != nil else {
          throw Connections.missing(topic)
        }
        if isWaiting { progress.say("Kafka answers again") }
        isWaiting = false
        return true
      } catch let error as KafkaError where error.isTimeout || error.isRetriable {
        producer.poll(timeoutMilliseconds: 0)
        let said = producer.takeErrors()
        // A wrong password stays wrong, so waiting would not help.
        if let refusal = said.last(where: \.isAccessRefused) { throw refusal }
        if !isWaiting { sayWaiting(said.last ?? error) }
        isWaiting = true
        usleep(200_000)
      }
    }
    return false
  }
}
