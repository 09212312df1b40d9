import Foundation
import KafkaTransport
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import SystemRandom
import UsageAggregation

/// Timings and sizes. They live here because a generic type cannot have static stored properties.
enum ConsumerTiming {
  /// How often the store is asked whether an operator has done something for halted partitions.
  static let storeMilliseconds = 2_000
  /// How often the log ends of partitions that are read are compared with the positions, and the
  /// remembered record of one of them with the log.
  static let watchMilliseconds = 5_000
  static let batchCapacity = 4_096
  static let reportMilliseconds = 100
  /// How often the log ends are asked for while catching up: the flush waits for the end.
  static let lagMilliseconds = 10
}

/// One membership in the group, from joining to leaving. Everything here runs on the consumer's
/// thread.
///
/// The session drives: it polls, and hands what came to the extensions in this folder. What to do
/// is decided by `PartitionMachine`, `FlushPacing` and `LogAccumulator`.
final class ConsumerSession<Processor: LogProcessor> {
  let settings: ConsumerSettings
  let health: HealthState
  let metrics: ConsumerMetrics
  let logger: Logger
  let processor: Processor
  private let writer: Processor.Writer
  private let stop: StopSignal
  private let farewell: Farewell
  let pulse: Heartbeat
  /// Names this membership in `consumer_offset.claimed_by`.
  let owner =
    "\(ProcessInfo.processInfo.hostName)/\(getpid())/\(SystemRandom.hexadecimal(bytes: 4))"

  var connection: PostgresConnection?
  var consumer: KafkaConsumer?
  let inspector: LogInspector
  var flusher: Flusher<Processor.Writer>?
  let messages = MessageBatch(capacity: ConsumerTiming.batchCapacity)
  let views: UnsafeMutablePointer<LogRecordView>
  var accumulator: LogAccumulator
  var batch: LogBatch
  var spare: LogBatch?
  var epochs: [Int32: Int32] = [:]
  /// The partitions that the group has assigned.
  var machines: [Int32: PartitionMachine] = [:]
  /// The partitions that are read. Records of all others are dropped.
  var reading: Set<Int32> = []
  /// The partitions that Kafka's client still fetches, though they are not read any more.
  var stopped: Set<Int32> = []
  /// The bad batches of the dedupe window that were passed over, by partition.
  var passedOver: [Int32: Int64] = [:]
  /// The store's rows of partitions, as of the last look.
  var storedRows: [Int32: OffsetStore.Stored] = [:]
  /// The last record of each partition that was found in the log again.
  var anchors: [Int32: (offset: Int64, hash: Int64)] = [:]
  /// How often in a row the log end lay before the position, or was not told.
  var badLooks: [Int32: Int] = [:]
  /// The reasons that `partition_halt` holds for this session's partitions.
  var recordedHalts: [Int32: String] = [:]
  var lastTicket = 0
  var nextWatch = 0
  var nextStoreLook = 0
  var nextAnchor: Int32 = 0
  var kafka: KafkaLife
  var movement = MovementWatch()
  var standstills: StandstillReport
  var pacing: FlushPacing
  var isFlushing = false
  var lastReport = 0
  var lastLag = 0
  var madeProgress = false
  private var polling = IdlePause(patience: 200, busy: 5, quiet: 20)  // Milliseconds.
  private var pollMilliseconds: UInt32 = 5

  init(
    settings: ConsumerSettings, health: HealthState, metrics: ConsumerMetrics, logger: Logger,
    processor: Processor, writer: Processor.Writer, stop: StopSignal, farewell: Farewell,
    pulse: Heartbeat
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.processor = processor
    self.writer = writer
    self.stop = stop
    self.farewell = farewell
    self.pulse = pulse
    pacing = FlushPacing(
      interval: settings.flushIntervalMilliseconds,
      catchUpInterval: settings.catchUpFlushIntervalMilliseconds,
      maximumEntries: settings.maxBatchEntries)
    inspector = LogInspector(
      kafka: settings.kafka, topic: settings.topic, clientID: "\(settings.group)-inspector")
    kafka = KafkaLife(health: health, settings: settings, logger: logger)
    standstills = StandstillReport(health: health, settings: settings, logger: logger)
    views = .allocate(capacity: ConsumerTiming.batchCapacity)
    accumulator = LogAccumulator(
      settings: settings.rules,
      hash: KeyedHash(
        seed: (
          SystemRandom.word(), SystemRandom.word(), SystemRandom.word(), SystemRandom.word()
        )))
    batch = accumulator.makeBatch()
    spare = accumulator.makeBatch()
  }

  deinit { views.deallocate() }

  // MARK: Beginning and end

  /// Opens what the session needs. It waits for nothing, and throws what is missing, in words for
  /// the operator.
  func prepare() throws {
    do throws(PostgresError) {
      connection = try PostgresConnection.toKnownSchema(
        url: settings.databaseURL, application: settings.group)
    } catch {
      if error.isOfSchema { throw SessionProblem(description: error.message) }
      throw error
    }
    pulse.beat()
    let consumer = try KafkaConsumer(
      settings.kafka, group: settings.group, clientID: settings.group)
    self.consumer = consumer
    try findTopic(consumer)
    flusher = Flusher(
      settings: settings, owner: owner, metrics: metrics, health: health, logger: logger,
      writer: writer, stop: stop)
    flusher!.start()
    try consumer.subscribe([settings.topic])
    movement.waitsForGroup(at: Monotonic.milliseconds)
    health.report(settings.healthName("consumer"), problem: "joining the group", logs: false)
  }

  /// Throws the reason if the topic cannot be read, in words for the operator.
  private func findTopic(_ consumer: KafkaConsumer) throws {
    do throws(KafkaError) {
      if try consumer.partitionCount(settings.topic, timeoutMilliseconds: 5_000) != nil {
        kafka.isAlive(since: Monotonic.milliseconds)
        return
      }
    } catch {
      // A password or a certificate that is refused is told by callbacks, which a read serves.
      // Its own error matters less than the one that is at hand.
      _ = try? consumer.consume(into: messages, timeoutMilliseconds: 50)
      messages.recycle()
      throw consumer.takeErrors().last { $0.isAccessRefused } ?? error
    }
    if let refusal = consumer.refusal(ofTopic: settings.topic, timeoutMilliseconds: 5_000) {
      throw refusal
    }
    throw SessionProblem(
      description: "the topic \(settings.topic) is missing; run: meterctl topics apply")
  }

  /// Leaves the group and frees the client, on a thread that nobody needs: librdkafka 2.0.2 can
  /// wait there for ever.
  ///
  /// - Returns: false if that did not come to an end within the time.
  func close() -> Bool {
    messages.recycle()
    flusher?.close(seconds: 3)
    inspector.close()
    let isClosed = closeConsumer()
    for partition in machines.keys {
      processor.disown(partition)
      metrics.forget(partition)
    }
    machines = [:]
    processor.shares([], isBehind: false)
    standstills.tell([])
    metrics.ownedPartitions.set(0)
    metrics.haltedPartitions.set(0)
    return isClosed
  }

  private func closeConsumer() -> Bool {
    guard let consumer else { return true }
    self.consumer = nil
    return farewell.leave(consumer, isStopping: stop.isRaised)
  }

  func run() throws {
    guard let consumer else { return }
    while !stop.isRaised {
      pulse.beat()
      let count = try consumer.consume(
        into: messages, timeoutMilliseconds: Int32(pollMilliseconds))
      pollMilliseconds = polling.next(foundWork: count > 0 || isFlushing)
      heedDoubts(consumer)
      try takeRecords(count)
      messages.recycle()
      while let rebalance = consumer.takeRebalance() { try answer(rebalance, consumer) }
      try settleFlush(waitMilliseconds: 0)
      try flushIfDue()
      try followPartitions(consumer)
      report(consumer)
      try checkMovement()
    }
    try drain()
  }
}
