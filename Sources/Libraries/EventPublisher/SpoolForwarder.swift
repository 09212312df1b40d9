import Foundation
import KafkaTransport
import Logging
import Synchronization

/// Moves records from the spool to Kafka in their order, on its own thread.
///
/// This process or the next may send a record again, but never after a later record. The consumer
/// recognizes a resend by its sequence only if sequences never go back. So any failure ends the
/// producer (`enable.gapless.guarantee`), and a new one begins at the first record that is not
/// known to be delivered.
final class SpoolForwarder: @unchecked Sendable {
  // Everything except `status` and `isStopping` belongs to the thread.

  /// The state that other threads may read.
  struct Status: Sendable, Equatable {
    /// A text for people that says why nothing is sent. Nil while records are sent.
    var problem: String?
    var restarts: Int64 = 0
  }

  private struct InFlight {
    var position: Spool.Position
    var topic: Int
    var isDone = false
    var isUnsendable = false
  }

  /// The deliveries of one producer, which are filled while it is polled.
  private final class Deliveries: @unchecked Sendable {
    var list: [KafkaProducer.Delivery] = []
  }

  let spool: Spool
  private let configuration: KafkaConfiguration
  let topics: [String]
  private let logger: Logger
  private let onProblem: @Sendable (String?) -> Void
  private let status = Mutex(Status())
  private let isStopping = Atomic<Bool>(false)
  let deadline = Atomic<Int>(0)
  private let finished = DispatchSemaphore(value: 0)

  var producer: KafkaProducer?
  private var deliveries = Deliveries()
  /// The records in flight in the order of the spool. The first `head` are finished.
  private var inFlight: [InFlight] = []
  private var head = 0
  /// How many records were sent before `inFlight` begins. Opaque numbers count on from it.
  private var sent = 0
  private var cursor: Spool.Position
  private var knownTopics: Set<Int> = []
  /// For this many records, a batch has one record, to find the one that no broker accepts.
  private var careful = 0
  private var pauseUntil = 0
  /// Whether Kafka had a problem while there was nothing to send. Only an answer ends that.
  private var wantsProbe = false
  /// The last refusal, until Kafka answers.
  private var accessRefusal: KafkaError?
  /// Why the producer refused a record.
  private var refusal: KafkaError?
  private var lastDelivery = SpoolForwarder.now
  /// How long deliveries may fail to come. It doubles each time, as brokers may be slow.
  private var stallMilliseconds = SpoolForwarder.firstStallMilliseconds
  var encoder = EventEncoder()
  var reportsInFlight = 0
  var reports: Int64 = 0
  /// The first report is made immediately, because an earlier process may have reported events as
  /// pending that this process delivers.
  private var nextReport = 0

  private static let maximumInFlight = 100_000
  private static let firstStallMilliseconds = 2_000
  private static let longestStallMilliseconds = 60_000
  private static let pressing = 1_024
  private var gathering = IdlePause(patience: 250, busy: 4_000, quiet: 20_000)  // Microseconds.
  private static let roundRecords = 4_096
  private static let roundMilliseconds: Int32 = 100
  private static let reportMilliseconds = 10_000
  private static let retryMilliseconds = 500
  /// Errors of single brokers do not matter while other brokers accept records.
  private static let quietMilliseconds = 1_000
  static let reportOpaque = UInt.max

  init(
    spool: Spool, configuration: KafkaConfiguration, topics: [String], logger: Logger,
    onProblem: @escaping @Sendable (String?) -> Void
  ) {
    self.spool = spool
    self.configuration = configuration
    self.topics = topics
    self.logger = logger
    self.onProblem = onProblem
    cursor = spool.firstPending
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.name = "spool-sender"
    thread.start()
  }

  var current: Status { status.withLock { $0 } }

  /// Sends as many records as it can until the time is over, makes the final report, and ends.
  func stop(milliseconds: Int) {
    deadline.store(Self.now + milliseconds, ordering: .relaxed)
    isStopping.store(true, ordering: .releasing)
    finished.wait()
    finished.signal()
  }

  static var now: Int { Int(DispatchTime.now().uptimeNanoseconds / 1_000_000) }

  // MARK: The thread

  private func run() {
    while true {
      if isStopping.load(ordering: .acquiring),
        spool.pending == 0 || Self.now >= deadline.load(ordering: .relaxed)
      {
        break
      }
      step()
    }
    finish()
  }

  /// Runs one round. It queues the spool's records and sends them immediately. The next round waits
  /// until they are delivered.
  ///
  /// So no records are queued in librdkafka after a request that gets no answer. The broker thread
  /// of 2.0.2 spins while there are any, which took a quarter of a service's CPU in a measurement.
  /// If more records come than fit into a round, batches fill by themselves, and waiting for them
  /// would cost a fifth of the events/s.
  private func step() {
    guard let producer = producer ?? open() else { return }
    if isHeldUp {
      producer.poll(timeoutMilliseconds: 10)
    } else {
      let handed = fill(producer)
      let out = inFlight.count - head
      if handed < Self.pressing {
        if out > 0, out <= Self.roundRecords {
          // `take` and the next round handle records that are not delivered in time.
          try? producer.flush(timeoutMilliseconds: Self.roundMilliseconds)
        }
        // A few records at a time cost as much as many, so the thread waits for more.
        usleep(gathering.next(foundWork: handed > 0 || out > 0))
      }
      producer.poll(timeoutMilliseconds: 0)
    }
    take(producer)
    probe()
    if Self.now >= nextReport {
      nextReport =
        Self.now + (report(isFinal: false) ? Self.reportMilliseconds : Self.retryMilliseconds)
    }
  }

  /// Asks whether Kafka answers if nothing else would show it.
  private func probe() {
    guard wantsProbe, Self.now >= pauseUntil, let producer else { return }
    if inFlight.count > head {
      // Records that are on their way will show it.
      wantsProbe = false
      return
    }
    knownTopics = []
    wantsProbe = !isKnown(0, producer)
  }

  /// Whether the brokers do not answer at the moment.
  private var isHeldUp: Bool {
    inFlight.count > head && Self.now - lastDelivery > Int(Self.roundMilliseconds)
  }

  private func open() -> KafkaProducer? {
    if Self.now < pauseUntil {
      usleep(10_000)
      return nil
    }
    var configuration = configuration
    configuration.set("enable.gapless.guarantee", "true")
    if careful > 0 { configuration.set("batch.num.messages", "1") }
    deliveries = Deliveries()
    do {
      producer = try KafkaProducer(configuration, clientID: spool.producer) {
        [deliveries] delivery in deliveries.list.append(delivery)
      }
    } catch {
      pause("Kafka's settings are refused: \(error)")
    }
    return producer
  }

  /// Queues as many records as there is room for.
  ///
  /// - Returns: the number of records.
  private func fill(_ producer: KafkaProducer) -> Int {
    var handed = 0
    while inFlight.count - head < Self.maximumInFlight, handed < 4_096,
      let window = spool.window(from: cursor)
    {
      var offset = window.start
      reading: while offset < window.end, handed < 4_096 {
        switch window.segment.read(at: offset, verify: false) {
        case .end, .corrupt:
          // The segment is sealed, so the following records are in the next one.
          cursor = Spool.Position(segment: window.segment.number + 1, offset: 0)
          break reading
        case .record(let record):
          guard isKnown(record.topic, producer), hand(record, window.segment, producer) else {
            return handed
          }
          offset = record.end
          cursor = Spool.Position(segment: window.segment.number, offset: offset)
          handed += 1
        }
      }
    }
    return handed
  }

  /// Whether the topic exists. Until then the brokers refuse records in no order.
  func isKnown(_ topic: Int, _ producer: KafkaProducer) -> Bool {
    if knownTopics.contains(topic) { return true }
    if Self.now < pauseUntil { return false }
    do {
      if try producer.partitionCount(topics[topic], timeoutMilliseconds: 1_000) != nil {
        knownTopics.insert(topic)
        accessRefusal = nil
        say(nil)
        return true
      }
      if let refusal = producer.refusal(ofTopic: topics[topic], timeoutMilliseconds: 1_000) {
        say("Kafka refuses: \(refusal.explanation)")
      } else {
        say("the topic \(topics[topic]) does not exist (run meterctl topics apply)")
      }
    } catch {
      let cause = producer.explained(error)
      // librdkafka reports a refusal once in half a minute. It stays until Kafka answers.
      if cause.isAccessRefused { accessRefusal = cause }
      say(
        accessRefusal.map { "Kafka refuses: \($0.explanation)" }
          ?? "Kafka does not answer: \(cause)")
    }
    pauseUntil = Self.now + Self.retryMilliseconds
    return false
  }

  private func hand(
    _ record: Segment.Record, _ segment: Segment, _ producer: KafkaProducer
  ) -> Bool {
    do {
      guard
        try producer.produce(
          topic: topics[record.topic], key: record.key, value: record.value,
          opaque: UInt(sent + inFlight.count))
      else { return false }
    } catch  where error.isRecordRefused {
      // The record is larger than the operator's librdkafka settings allow.
      append(record, segment, isUnsendable: true)
      logger.error("an event cannot be sent", metadata: ["reason": "\(error)"])
      return true
    } catch {
      // The topic or the producer is refused, which may be temporary.
      refusal = error
      return false
    }
    append(record, segment, isUnsendable: false)
    return true
  }

  private func append(_ record: Segment.Record, _ segment: Segment, isUnsendable: Bool) {
    inFlight.append(
      InFlight(
        position: Spool.Position(segment: segment.number, offset: record.end), topic: record.topic,
        isDone: isUnsendable, isUnsendable: isUnsendable))
  }

  // MARK: Deliveries

  func take(_ producer: KafkaProducer) {
    var failure = refusal
    refusal = nil
    for delivery in deliveries.list {
      if delivery.opaque == Self.reportOpaque {
        reportsInFlight -= 1
        continue
      }
      let index = Int(delivery.opaque) - sent
      guard inFlight.indices.contains(index) else { continue }
      if let error = delivery.error {
        failure = failure ?? error
        // It was sent alone and refused for its content, so no broker will ever accept it.
        if careful > 0, error.isRecordRefused {
          inFlight[index].isDone = true
          inFlight[index].isUnsendable = true
        }
      } else {
        inFlight[index].isDone = true
        lastDelivery = Self.now
        stallMilliseconds = Self.firstStallMilliseconds
      }
    }
    if inFlight.count == head { lastDelivery = Self.now }
    // This includes records that were refused immediately and have no delivery.
    release()
    if !deliveries.list.isEmpty {
      deliveries.list.removeAll(keepingCapacity: true)
      accessRefusal = nil
      if failure == nil, producer.fatalError == nil { say(nil) }
    }
    let isQuiet = Self.now - lastDelivery > Self.quietMilliseconds
    for error in producer.takeErrors() where !error.isFatal {
      if error.isAccessRefused {
        accessRefusal = error
        say("Kafka refuses: \(error.explanation)")
        wantsProbe = true
      } else if isQuiet {
        say("Kafka: \(error)")
      } else if inFlight.count == head {
        wantsProbe = true
      }
    }
    if let error = producer.fatalError ?? failure {
      restart(after: "Kafka refused records: \(failure ?? error)", failure ?? error)
    } else if Self.now - lastDelivery > stallMilliseconds {
      // A producer whose broker does not answer spins, which took a third of a core in a
      // measurement. A new producer sends nothing before it has had an answer.
      stallMilliseconds = min(stallMilliseconds * 2, Self.longestStallMilliseconds)
      restart(after: "Kafka does not answer", nil)
    }
  }

  private func release() {
    var counts: [Int64] = [0, 0]
    var unsendable: [Int64] = [0, 0]
    var last: Spool.Position?
    while head < inFlight.count, inFlight[head].isDone {
      counts[inFlight[head].topic] += 1
      if inFlight[head].isUnsendable { unsendable[inFlight[head].topic] += 1 }
      last = inFlight[head].position
      head += 1
    }
    guard let last else { return }
    careful = max(careful - Int(counts[0] + counts[1]), 0)
    spool.delivered(to: last, counts: counts, unsendable: unsendable)
    if head == inFlight.count || head > 65_536 {
      inFlight.removeFirst(head)
      sent += head
      head = 0
    }
  }

  private func restart(after problem: String, _ error: KafkaError?) {
    if error?.isRecordRefused == true, careful == 0 { careful = inFlight.count - head }
    producer = nil
    deliveries = Deliveries()
    reportsInFlight = 0
    knownTopics = []
    sent += inFlight.count
    // Later records may be delivered already. Consumers recognize them by their sequences.
    inFlight = []
    head = 0
    cursor = spool.resume()
    lastDelivery = Self.now
    status.withLock { $0.restarts += 1 }
    pause(problem)
  }

  private func pause(_ problem: String) {
    say(problem)
    pauseUntil = Self.now + Self.retryMilliseconds
  }

  /// Logs a change once.
  private func say(_ problem: String?) {
    let before = status.withLock { status in
      defer { status.problem = problem }
      return status.problem
    }
    guard before != problem else { return }
    if let problem {
      logger.warning("events stay in the spool", metadata: ["reason": "\(problem)"])
    } else {
      logger.info("events are being sent again")
    }
    onProblem(problem)
  }
}

extension KafkaError {
  /// Whether the record was refused for its content, so that brokers will refuse it for ever.
  fileprivate var isRecordRefused: Bool {
    [10, 2, 87].contains(code)  // MSG_SIZE_TOO_LARGE, INVALID_MSG, INVALID_RECORD
  }
}
