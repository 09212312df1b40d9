import Foundation
import KafkaTransport
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import SystemRandom
import UsageAggregation

/// How long and how much; a generic type stores no statics.
enum Pace {
  /// How often the store is asked whether an operator has done something for halted partitions.
  static let storeMilliseconds = 2_000
  /// How often the log ends of partitions that are read are compared with the positions, and the
  /// remembered record of one of them with the log.
  static let watchMilliseconds = 5_000
  static let batchCapacity = 4_096
  static let reportMilliseconds = 100
}

/// One membership in the group, from joining to leaving. Everything here runs on the consumer's thread.
final class ConsumerSession<Processor: LogProcessor> {
  let settings: ConsumerSettings
  private let health: HealthState
  let metrics: ConsumerMetrics
  let logger: Logger
  let processor: Processor
  private let writer: Processor.Writer
  private let stop: StopSignal
  private let farewell: Farewell
  /// Names this membership in `consumer_offset.claimed_by`.
  let owner =
    "\(ProcessInfo.processInfo.hostName)/\(getpid())/\(SystemRandom.hexadecimal(bytes: 4))"

  var connection: PostgresConnection?
  private var consumer: KafkaConsumer?
  let inspector: LogInspector
  private var flusher: Flusher<Processor.Writer>?
  private let messages = MessageBatch(capacity: Pace.batchCapacity)
  private let views: UnsafeMutablePointer<LogRecordView>
  var accumulator: LogAccumulator
  var batch: LogBatch
  private var spare: LogBatch?
  var epochs: [Int32: Int32] = [:]
  /// What the group has assigned.
  var machines: [Int32: PartitionMachine] = [:]
  /// Those of them that are read: records of all others are dropped.
  var reading: Set<Int32> = []
  /// Those that Kafka's client still fetches, though they are not read any more.
  var stopped: Set<Int32> = []
  /// Bad batches of the dedupe window that were passed over, by partition.
  var passedOver: [Int32: Int64] = [:]
  /// What the store said of partitions when they were last looked at.
  var storedRows: [Int32: OffsetStore.Stored] = [:]
  /// The last record of each partition that was found in the log again.
  var anchors: [Int32: (offset: Int64, hash: Int64)] = [:]
  /// Log ends that lay before the position, or were not told, in a row.
  var badLooks: [Int32: Int] = [:]
  /// What `partition_halt` holds of this session's partitions.
  var recordedHalts: [Int32: String] = [:]
  var lastTicket = 0
  var nextWatch = 0
  var nextStoreLook = 0
  var nextAnchor: Int32 = 0
  var kafka: KafkaLife
  private var standstills: StandstillReport
  private var pacing: FlushPacing
  private(set) var isFlushing = false
  private var lastReport = 0
  private(set) var madeProgress = false
  private var polling = IdlePause(patience: 200, busy: 5, quiet: 20)  // Milliseconds.
  private var pollMilliseconds: UInt32 = 5

  init(
    settings: ConsumerSettings, health: HealthState, metrics: ConsumerMetrics, logger: Logger,
    processor: Processor, writer: Processor.Writer, stop: StopSignal, farewell: Farewell
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.processor = processor
    self.writer = writer
    self.stop = stop
    self.farewell = farewell
    pacing = FlushPacing(
      interval: settings.flushIntervalMilliseconds,
      catchUpInterval: settings.catchUpFlushIntervalMilliseconds,
      maximumEntries: settings.maxBatchEntries)
    inspector = LogInspector(
      kafka: settings.kafka, topic: settings.topic, clientID: "\(settings.group)-inspector")
    kafka = KafkaLife(health: health, settings: settings, logger: logger)
    standstills = StandstillReport(health: health, settings: settings, logger: logger)
    views = .allocate(capacity: Pace.batchCapacity)
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

  /// Waits for nothing: throws what is missing, in words for the operator.
  func prepare() throws {
    do throws(PostgresError) {
      connection = try PostgresConnection.toKnownSchema(
        url: settings.databaseURL, application: settings.group)
    } catch {
      if error.isOfSchema { throw SessionProblem(description: error.message) }
      throw error
    }
    let consumer = try KafkaConsumer(
      settings.kafka, group: settings.group, clientID: settings.group)
    self.consumer = consumer
    try findTopic(consumer)
    flusher = Flusher(
      settings: settings, owner: owner, metrics: metrics, health: health, logger: logger,
      writer: writer, stop: stop)
    flusher!.start()
    try consumer.subscribe([settings.topic])
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
      let count = try consumer.consume(
        into: messages, timeoutMilliseconds: Int32(pollMilliseconds))
      pollMilliseconds = polling.next(foundWork: count > 0 || isFlushing)
      heedDoubts(consumer)
      try take(count)
      messages.recycle()
      while let rebalance = consumer.takeRebalance() { try answer(rebalance, consumer) }
      try settleFlush(waitMilliseconds: 0)
      try flushIfDue()
      try followPartitions(consumer)
      report(consumer)
    }
    try drain()
  }

  // MARK: Records

  private func take(_ count: Int) throws {
    var i = 0
    while i < count {
      switch messages.kind(i) {
      case .record:
        let partition = messages.partition(i)
        guard reading.contains(partition) else {
          i += 1
          continue
        }
        i = try takeRun(from: i, count, partition)
      case .endOfPartition:
        try reachedEnd(messages.partition(i), at: messages.offset(i))
        i += 1
      case .error:
        try take(error: i)
        i += 1
      }
    }
  }

  private func reachedEnd(_ partition: Int32, at offset: Int64) throws {
    guard reading.contains(partition) else { return }
    let before = accumulator.position(of: partition)
    accumulator.reachedEnd(partition, at: offset)
    // Control records and aborted ones end here too: the offset behind them must be stored.
    if before != accumulator.position(of: partition) {
      pacing.endMoved(at: Monotonic.milliseconds)
    }
    try checkHalt(partition)
  }

  /// Records of one partition that stand together, as one call.
  private func takeRun(from first: Int, _ count: Int, _ partition: Int32) throws -> Int {
    var n = 0
    var i = first
    var named = NamedDeadLetters()
    while i < count, messages.kind(i) == .record, messages.partition(i) == partition {
      let record = messages.record(i)
      var view = LogRecordView(
        offset: record.offset, timestamp: record.timestamp, value: record.value, key: record.key)
      // Whoever keeps them also says which of them count; for the others they are events like any other.
      if settings.rules.keepsDeadLetters, let header = record.header(named: "dead-letter"),
        let key = DeadLetterKey(header: header),
        key.precedes(
          epoch: epochs[partition] ?? 0, topic: settings.topic, partition: partition,
          offset: record.offset)
      {
        view.requeueIndex = named.add(key, record.value)
      }
      views[n] = view
      n += 1
      i += 1
    }
    pacing.tookRecord(at: Monotonic.milliseconds)
    let requeues = try named.resolve(connection, UnsafeMutableBufferPointer(start: views, count: n))
    var taken = 0
    while true {
      taken += try accumulator.take(
        UnsafeBufferPointer(start: views + taken, count: n - taken), of: partition,
        requeues: requeues, into: batch, resolveImports: registered)
      try checkHalt(partition)
      if taken == n { return i }
      // The batch is full: it must leave before the rest can be taken.
      try awaitFlush()
      try review()
      if batch.isFull {
        try awaitFlush()
        try seal()
      }
    }
  }

  private func take(error i: Int) throws {
    guard let error = messages.error(i), let consumer else { return }
    let partition = messages.partition(i)
    let now = Monotonic.milliseconds
    guard messages.topicIdentity(i) != nil, reading.contains(partition) else {
      if error.isFatal { throw error }
      // Left over from before it was stopped: it is being looked at.
      if machines[partition] != nil, !error.isAccessRefused { return }
      kafka.met(error, at: now)
      // The topic was away: whatever comes back under its name may be another log.
      if error.isUnknownTopicOrPartition { doubt(Array(reading)) }
      return
    }
    if error.isBadBatch {
      try badBatch(partition, at: messages.offset(i), error, consumer)
    } else if error.isRetriable || error.isOffsetOutOfRange {
      // What it means is found out by looking at the log.
      doubt([partition])
    } else {
      kafka.met(error, at: now)
      if error.isAccessRefused { doubt([partition]) }
    }
  }

  private func badBatch(
    _ partition: Int32, at offset: Int64, _ error: KafkaError, _ consumer: KafkaConsumer
  ) throws {
    if let row = storedRows[partition], offset < row.nextOffset {
      try passOver(offset, of: row, error, consumer)
      return
    }
    // What was read before it is good.
    try drain()
    guard let position = accumulator.position(of: partition) else { return }
    try stop(
      partition,
      Standstill(
        .badBatch,
        """
        the batch at offset \(position) fails its checksum: a disk or the network has changed it; \
        restore it from another replica, or give it up: meterctl topics accept-gap --partition \
        \(partition) --to OFFSET
        """, offset: position))
  }

  /// A bad batch below the stored offset: somebody has given it up. Its ids are unknown to the
  /// dedupe window, and the window is filled with what comes behind it.
  private func passOver(
    _ offset: Int64, of row: OffsetStore.Stored, _ error: KafkaError, _ consumer: KafkaConsumer
  ) throws {
    logger.warning(
      "a batch of the dedupe window cannot be read and is passed over",
      metadata: [
        "partition": .stringConvertible(row.partition), "offset": .stringConvertible(offset),
        "error": "\(error)",
      ])
    var next = row.nextOffset
    if let last = row.lastRecordOffset, last > offset, passedOver[row.partition] != offset {
      next = last
    }
    passedOver[row.partition] = offset
    try consumer.skip(TopicPartition(topic: settings.topic, partition: row.partition), to: next)
  }

  private func checkHalt(_ partition: Int32) throws {
    guard case .logDiffers(let offset) = accumulator.halt(of: partition) else { return }
    try stopAnotherLog(partition, at: offset)
  }

  func registered(_ names: [Identifier]) throws -> [Identifier: Int64] {
    guard let connection else { return [:] }
    return try ImportStore(connection).oldestTimes(of: names)
  }

  // MARK: Flushing

  private func flushIfDue() throws {
    guard !isFlushing else { return }
    let entries = batch.table.groupCount + batch.table.cellCount
    if pacing.isDue(at: Monotonic.milliseconds, entries: entries) { try review() }
  }

  /// - Precondition: no flush is under way.
  private func review() throws {
    switch processor.review(batch, isBehind: pacing.isBehind) {
    case .keep: pacing.keptOpen(at: Monotonic.milliseconds)
    case .flush: try seal()
    case .tell(let cargo):
      pacing.keptOpen(at: Monotonic.milliseconds)
      isFlushing = true
      flusher?.submit(FlushJob(cargo: cargo, batch: nil, epochs: epochs))
    }
  }

  /// Hands the open batch to the flusher and opens the other one.
  ///
  /// - Precondition: no flush is under way.
  func seal() throws {
    precondition(!isFlushing, "a batch that cannot be handed over must not be sealed")
    accumulator.seal(batch)
    pacing.sealed()
    if batch.progress.isEmpty {
      batch.reset()
      return
    }
    guard let next = spare, let flusher else { return }
    spare = nil
    let job = FlushJob(
      cargo: processor.seal(batch), batch: batch,
      epochs: epochs.filter { e in batch.progress.contains { $0.partition == e.key } })
    batch = next
    isFlushing = true
    flusher.submit(job)
  }

  /// Takes the outcome of the flush under way, if there is one.
  private func settleFlush(waitMilliseconds: Int) throws {
    guard isFlushing, let flusher else { return }
    var outcome = flusher.take(waitMilliseconds: min(waitMilliseconds, 1_000))
    // The flusher's patience is bounded, so this ends.
    while outcome == nil, waitMilliseconds == .max {
      outcome = flusher.take(waitMilliseconds: 1_000)
    }
    guard let (job, result) = outcome else { return }
    isFlushing = false
    var stored: [(Int32, Int64)] = []
    if let flushed = job.batch {
      accumulator.settled(flushed)
      stored = flushed.progress.map { ($0.partition, $0.nextOffset) }
      flushed.reset()
      spare = flushed
    }
    switch result {
    case .stored(let takenOver):
      madeProgress = true
      consumer?.commitAsync(
        stored.filter { !takenOver.contains($0.0) }.map {
          (TopicPartition(topic: settings.topic, partition: $0.0), $0.1)
        })
      for (partition, _) in stored where !takenOver.contains(partition) {
        machines[partition]?.progressed()
      }
      for partition in takenOver where machines[partition]?.isHeld == true {
        try self.stop(partition, Standstill(.takenOver, "another process has claimed it"))
      }
    case .gaveUp(let problem):
      throw SessionProblem(description: "the database takes no flush: \(problem)")
    }
  }

  /// Stores everything taken so far.
  func drain() throws {
    try awaitFlush()
    try seal()
    try awaitFlush()
  }

  /// Settles until no flush is under way: settling one that met a takeover seals the open batch, which is the next.
  private func awaitFlush() throws {
    while isFlushing { try settleFlush(waitMilliseconds: .max) }
  }

  // MARK: Telling

  private func report(_ consumer: KafkaConsumer) {
    let now = Monotonic.milliseconds
    guard now - lastReport >= Pace.reportMilliseconds else { return }
    lastReport = now
    pacing.lag = 0
    var behind: [Int32] = []
    for partition in accumulator.ownedPartitions {
      let tp = TopicPartition(topic: settings.topic, partition: partition)
      if let high = consumer.cachedHighWatermark(tp),
        let position = accumulator.position(of: partition)
      {
        metrics.lag(partition, max(0, high - position))
        pacing.lag += max(0, high - position)
        // A log does not get shorter: it may be another one.
        if high < position { behind.append(partition) }
      }
    }
    doubt(behind)
    processor.shares(accumulator.ownedPartitions, isBehind: pacing.isBehind)
    let standing = machines.compactMap { partition, machine in
      machine.standstill.map { (partition: partition, standstill: $0) }
    }
    standstills.tell(standing)
    metrics.rebuildingPartitions.set(
      accumulator.ownedPartitions.count { accumulator.isRebuilding($0) })
    metrics.haltedPartitions.set(standing.count)
    metrics.batchBytes.set(batch.table.bytes)
    for error in consumer.takeErrors() { kafka.met(error, at: now) }
  }

  /// The partitions that this process owns have changed.
  func shareChanged() {
    let partitions = accumulator.ownedPartitions
    processor.shares(partitions, isBehind: pacing.isBehind)
    metrics.ownedPartitions.set(partitions.count)
  }

  /// The group has told this member what to read.
  func groupAnswered() {
    kafka.groupAnswered()
    health.report(settings.healthName("consumer"), problem: nil, logs: false)
  }
}
