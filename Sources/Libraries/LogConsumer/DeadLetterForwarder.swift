import KafkaTransport
import Logging
import PostgresStore
import Synchronization

/// Copies dead letters to their topic, at least once. One thread uses it.
///
/// A row is marked as forwarded once Kafka has acknowledged its copy. A letter that Kafka refuses
/// is kept, logged, and tried again after growing pauses. A letter that is too large for the topic
/// is copied without its key and value, which the row still has.
final class DeadLetterForwarder {
  private enum Result {
    case stored
    case refused(KafkaError)
  }

  private struct Letter {
    var row: DeadLetterForwardingStore.Row
    var headers: [(String, [UInt8])]
    var key: [UInt8]?
    var value: [UInt8]?
  }

  /// The results, by the opaque number of the delivery. The thread that serves deliveries fills it.
  private final class Deliveries: Sendable {
    let results = Mutex<[UInt: Result]>([:])
  }

  /// How many letters are copied together. 200 letters of 64 KiB are 13 MB.
  private static let pageRows = 200
  /// How long to wait for deliveries. The rows are locked meanwhile, and the server ends a
  /// transaction that is idle for 10 s.
  private static let deliveryMilliseconds: Int32 = 3_000

  private let settings: ConsumerSettings
  private let logger: Logger
  private let deliveries = Deliveries()
  private var producer: KafkaProducer?
  private var nextNumber: UInt = 0

  init(_ settings: ConsumerSettings, _ logger: Logger) {
    self.settings = settings
    self.logger = logger
  }

  /// - Returns: whether more may be due already.
  /// - Throws: an error if Kafka or PostgreSQL cannot be reached. Acknowledged copies are marked
  ///   even then.
  func forward(_ connection: PostgresConnection) throws -> Bool {
    var unanswered: KafkaError?
    let count = try connection.transaction {
      let letters = try page(connection)
      guard !letters.isEmpty else { return 0 }
      let producer = try openProducer()
      var results = try send(letters, producer)
      for i in letters.indices {
        guard case .refused(let error)? = results[i], error.isTooLarge else { continue }
        // A broker limits the size of a batch, so the record may fit alone.
        results[i] = try send([letters[i]], producer)[0]
        guard case .refused(let alone)? = results[i], alone.isTooLarge else { continue }
        var stub = letters[i]
        stub.key = nil
        stub.value = nil
        stub.headers.append(("omitted", Array("key and value: too large for the topic".utf8)))
        results[i] = try send([stub], producer)[0]
      }
      unanswered = try mark(letters, results, connection)
      return letters.count
    }
    if let unanswered {
      // The producer itself may be broken.
      producer = nil
      throw unanswered
    }
    return count == Self.pageRows
  }

  private func openProducer() throws -> KafkaProducer {
    if let producer { return producer }
    var configuration = settings.kafka
    configuration.set("message.timeout.ms", String(Self.deliveryMilliseconds))
    let deliveries = deliveries
    let opened = try KafkaProducer(
      configuration, clientID: "\(settings.group)-dead-letters"
    ) { delivery in
      deliveries.results.withLock {
        $0[delivery.opaque] = delivery.error.map { .refused($0) } ?? .stored
      }
    }
    producer = opened
    return opened
  }

  private func page(_ connection: PostgresConnection) throws -> [Letter] {
    try DeadLetterForwardingStore(connection).due(most: Self.pageRows).map { stored in
      Letter(
        row: stored.row,
        headers: [
          ("reason", Array(stored.reason.utf8)), ("detail", Array(stored.detail.utf8)),
          ("topic", Array(stored.topic.utf8)), ("partition", Array(stored.partition.utf8)),
          ("offset", Array(stored.offset.utf8)),
        ], key: stored.key, value: stored.value)
    }
  }

  /// - Returns: the results by letter; nil if there was no answer in time.
  private func send(_ letters: [Letter], _ producer: KafkaProducer) throws -> [Result?] {
    let first = nextNumber
    nextNumber += UInt(letters.count)
    deliveries.results.withLock { $0 = [:] }
    for (i, letter) in letters.enumerated() {
      do {
        while try !produce(letter, first + UInt(i), producer) {
          producer.poll(timeoutMilliseconds: 100)
        }
      } catch let error as KafkaError {
        deliveries.results.withLock { $0[first + UInt(i)] = .refused(error) }
      }
    }
    // Its timeout says no more than the missing answers do.
    try? producer.flush(timeoutMilliseconds: Self.deliveryMilliseconds + 1_000)
    let found = deliveries.results.withLock { $0 }
    return letters.indices.map { found[first + UInt($0)] }
  }

  private func produce(
    _ letter: Letter, _ number: UInt, _ producer: KafkaProducer
  ) throws -> Bool {
    func lend(
      _ bytes: [UInt8]?, _ body: (UnsafeRawBufferPointer?) throws -> Bool
    ) throws -> Bool {
      guard let bytes else { return try body(nil) }
      return try bytes.withUnsafeBytes { try body($0) }
    }
    return try lend(letter.key) { key in
      try lend(letter.value) { value in
        try producer.produce(
          topic: settings.deadLetterTopic, key: key, value: value, headers: letter.headers,
          opaque: number)
      }
    }
  }

  /// - Returns: the reason why Kafka did not answer for some letters. They are tried again
  ///   unchanged.
  private func mark(
    _ letters: [Letter], _ results: [Result?], _ connection: PostgresConnection
  ) throws -> KafkaError? {
    let store = DeadLetterForwardingStore(connection)
    var stored: [DeadLetterForwardingStore.Row] = []
    var refused: [DeadLetterForwardingStore.Row] = []
    var problem: KafkaError?
    var unanswered: KafkaError?
    for (letter, result) in zip(letters, results) {
      switch result {
      case .stored?: stored.append(letter.row)
      case .refused(let error)? where error.isTimeout || error.isRetriable: unanswered = error
      case .refused(let error)?:
        refused.append(letter.row)
        problem = error
      case nil: unanswered = unanswered ?? KafkaError.noAnswer("forward dead letters")
      }
    }
    try store.markForwarded(stored)
    if let problem {
      logger.error(
        "Kafka refused copies of dead letters; they are kept and sent again later",
        metadata: ["count": .stringConvertible(refused.count), "error": "\(problem)"])
      try store.markRefused(refused)
    }
    return unanswered
  }
}
