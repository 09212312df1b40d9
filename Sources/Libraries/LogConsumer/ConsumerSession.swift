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
  /// How often the store is asked whether an operator has dealt with halted partitions.
  static let storeMilliseconds = 2_000
  /// How often the store's offsets are compared with what was stored.
  static let lossMilliseconds = 10_000
  /// How often the log ends of the partitions that are read are compared with the positions, and
  /// the remembered record of one partition with the log.
  static let watchMilliseconds = 5_000
  /// The records whose bytes are brought into the cache together.
  static let lookahead = 256
  static let batchCapacity = 4_096
  static let reportMilliseconds = 100
  /// How often the log ends are asked for while catching up, because the flush waits until the end
  /// is reached.
  static let lagMilliseconds = 10
}

/// One membership in the group, from joining to leaving. Everything here runs on the consumer's
/// thread.
///
/// The session is a driver: it polls, and passes what it gets to the extensions in this folder.
/// `PartitionMachine`, `FlushPacing` and `LogAccumulator` decide what to do.
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
  /// The partitions that Kafka's client still fetches although they are no longer read.
  var stopped: Set<Int32> = []
  /// The bad batches of the dedupe window that were passed over, by partition.
  var passedOver: [Int32: Int64] = [:]
  /// The store's rows of partitions, as last read.
  var storedRows: [Int32: OffsetStore.Stored] = [:]
  /// The offset of each claimed partition in the store, as this session left it.
  var leftAt: [Int32: Int64] = [:]
  /// For each partition, the last record that was found again in the log.
  var anchors: [Int32: (offset: Int64, hash: Int64)] = [:]
  /// How many times in a row the log end was before the position, or was not known.
  var badLooks: [Int32: Int] = [:]
  /// The reasons that `partition_halt` holds for this session's partitions.
  var recordedHalts: [Int32: String] = [:]
  var lastTicket = 0
  var nextWatch = 0
  var nextStoreLook = 0
  var nextLossLook = 0
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

  /// Opens what the session needs. It waits for nothing. Its errors tell the operator what is
  /// missing.
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

  /// Throws the reason if the topic cannot be read. The error is written for the operator.
  private func findTopic(_ consumer: KafkaConsumer) throws {
    do throws(KafkaError) {
      if try consumer.partitionCount(settings.topic, timeoutMilliseconds: 5_000) != nil {
        kafka.isAlive(since: Monotonic.milliseconds)
        return
      }
    } catch {
      // librdkafka reports a refused password or certificate by callbacks, which a read serves. The
      // read's own error matters less than the present one.
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

  /// Leaves the group and frees the client on a separate thread, because librdkafka 2.0.2 can wait
  /// there for ever.
  ///
  /// - Returns: false if that did not end within the time.
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
