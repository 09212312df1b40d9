import Foundation
import KafkaTransport
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// How long and how much; a generic type stores no statics.
private enum Pace {
  /// How long a partition that cannot go on waits before it is looked at again.
  static let recheckMilliseconds = 3_000
  /// After another process's claim: longer than a session, so that the group has told its members who owns what.
  static let takeoverMilliseconds = 10_000
  static let batchCapacity = 4_096
  static let pollMilliseconds: Int32 = 5
  static let reportMilliseconds = 100
  /// More records than this left to read, and throughput matters more than the latency of each: at 100,000 events/s a twentieth of this is
  /// on its way at any time. Full batches are no sign: a consumer that outruns its fetches never sees one.
  static let behindRecords: Int64 = 100_000
  /// A pace that every machine keeps.
  static let recordsReadPerMillisecond: Int64 = 100
}

/// One membership in the group, from joining to leaving. Everything here runs on the consumer's thread.
final class ConsumerSession<Processor: LogProcessor> {
  private let settings: ConsumerSettings
  private let health: HealthState
  private let metrics: ConsumerMetrics
  private let logger: Logger
  private let processor: Processor
  private let writer: Processor.Writer
  private let stop: StopSignal
  /// Names this membership in `consumer_offset.claimed_by`.
  private let owner =
    "\(ProcessInfo.processInfo.hostName)/\(getpid())/\(UInt32.random(in: 0 ... .max))"

  private var connection: PostgresConnection?
  private var consumer: KafkaConsumer?
  private var flusher: Flusher<Processor.Writer>?
  private let messages = MessageBatch(capacity: Pace.batchCapacity)
  private let views: UnsafeMutablePointer<LogRecordView>
  private var accumulator: LogAccumulator
  private var batch: LogBatch
  private var spare: LogBatch?
  private var epochs: [Int32: Int32] = [:]
  /// Assigned by the group, but not read: why, and when to look again.
  private var suspended: [Int32: (problem: String, retryAt: Int)] = [:]
  private var batchStarted = 0
  private var isFlushing = false
  /// Records that the broker has and this process has not read yet.
  private var lag: Int64 = 0
  private var isBehind: Bool { lag > Pace.behindRecords }
  private var lastReport = 0
  private(set) var madeProgress = false

  init(
    settings: ConsumerSettings, health: HealthState, metrics: ConsumerMetrics, logger: Logger,
    processor: Processor, writer: Processor.Writer, stop: StopSignal
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.processor = processor
    self.writer = writer
    self.stop = stop
    views = .allocate(capacity: Pace.batchCapacity)
    accumulator = LogAccumulator(settings: settings.rules)
    batch = accumulator.makeBatch()
    spare = accumulator.makeBatch()
  }

  deinit { views.deallocate() }

  // MARK: Beginning and end

  /// Waits for nothing: throws what is missing, in words for the operator.
  func prepare() throws {
    let connection = try PostgresConnection(
      url: settings.databaseURL, application: settings.group)
    if let problem = try Schema.state(connection).problem {
      throw SessionProblem(description: problem)
    }
    self.connection = connection
    let consumer = try KafkaConsumer(
      settings.kafka, group: settings.group, clientID: settings.group)
    self.consumer = consumer
    guard try consumer.partitionCount(settings.topic, timeoutMilliseconds: 5_000) != nil else {
      throw SessionProblem(
        description: "the topic \(settings.topic) is missing; run: meterctl topics apply")
    }
    flusher = Flusher(
      settings: settings, owner: owner, metrics: metrics, health: health, logger: logger,
      writer: writer, stop: stop)
    flusher!.start()
    try consumer.subscribe([settings.topic])
    health.report(settings.healthName("consumer"), problem: "joining the group")
  }

  func close() {
    messages.recycle()
    flusher?.close(seconds: 3)
    consumer?.close()
    for partition in accumulator.ownedPartitions {
      processor.disown(partition)
      metrics.forget(partition)
    }
    processor.shares([], isBehind: false)
    for partition in suspended.keys { tell(partition, nil) }
    metrics.ownedPartitions.set(0)
  }

  func run() throws {
    guard let consumer else { return }
    while !stop.isRaised {
      let count = try consumer.consume(
        into: messages, timeoutMilliseconds: Pace.pollMilliseconds)
      try take(count)
      messages.recycle()
      while let rebalance = consumer.takeRebalance() { try answer(rebalance, consumer) }
      try settleFlush(waitMilliseconds: 0)
      try flushIfDue()
      try recheckSuspended(consumer)
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
        guard accumulator.owns(partition) else {
          i += 1
          continue
        }
        i = try takeRun(from: i, count, partition)
      case .endOfPartition:
        accumulator.reachedEnd(messages.partition(i), at: messages.offset(i))
        try checkHalt(messages.partition(i))
        i += 1
      case .error:
        try take(error: i)
        i += 1
      }
    }
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
    if batchStarted == 0 { batchStarted = Monotonic.milliseconds }
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
    guard let error = messages.error(i) else { return }
    let partition = messages.partition(i)
    guard messages.topicIdentity(i) != nil, accumulator.owns(partition) else {
      if error.isFatal { throw error }
      logger.warning("Kafka", metadata: ["error": "\(error)"])
      return
    }
    if error.isOffsetOutOfRange {
      try suspend(
        partition,
        "the stored offset lies outside the log: the topic was truncated or made anew; see: meterctl topics new-epoch, accept-gap"
      )
    } else {
      logger.warning(
        "Kafka", metadata: ["error": "\(error)", "partition": "\(partition)"])
    }
  }

  private func checkHalt(_ partition: Int32) throws {
    guard case .logDiffers(let offset) = accumulator.halt(of: partition) else { return }
    try suspend(
      partition,
      "the record at offset \(offset) is not the one remembered: the topic was truncated or made anew; see: meterctl topics new-epoch, accept-gap"
    )
  }

  private func registered(_ names: [Identifier]) throws -> [Identifier: Int64] {
    guard let connection else { return [:] }
    let rows = try connection.query(
      """
      select batch, (extract(epoch from oldest_time) * 1000)::bigint from import_batch
      where batch = any ($1::text[])
      """, [.identifiers(names)], operation: "look up import batches")
    return Dictionary(
      uniqueKeysWithValues: rows.rows.indices.map {
        (Identifier(rows.text($0, 0)!), rows.integer($0, 1)!)
      })
  }

  // MARK: Flushing

  private func flushIfDue() throws {
    guard !isFlushing, batchStarted > 0 else { return }
    let age = Monotonic.milliseconds - batchStarted
    let entries = batch.table.groupCount + batch.table.cellCount
    guard age >= flushInterval || entries >= settings.maxBatchEntries else { return }
    try review()
  }

  /// - Precondition: no flush is under way.
  private func review() throws {
    switch processor.review(batch, isBehind: isBehind) {
    case .keep: batchStarted = Monotonic.milliseconds
    case .flush: try seal()
    case .tell(let cargo):
      batchStarted = Monotonic.milliseconds
      isFlushing = true
      flusher?.submit(FlushJob(cargo: cargo, batch: nil, epochs: epochs))
    }
  }

  /// While behind, about as long as catching up may take: larger flushes write fewer rows, but none waits long after the end is reached.
  private var flushInterval: Int {
    guard isBehind else { return settings.flushIntervalMilliseconds }
    return min(Int(lag / Pace.recordsReadPerMillisecond), settings.catchUpFlushIntervalMilliseconds)
  }

  /// Hands the open batch to the flusher and opens the other one.
  ///
  /// - Precondition: no flush is under way.
  private func seal() throws {
    precondition(!isFlushing, "a batch that cannot be handed over must not be sealed")
    accumulator.seal(batch)
    batchStarted = 0
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
      for partition in takenOver where accumulator.owns(partition) {
        try suspend(
          partition, "another process has claimed it", retryMilliseconds: Pace.takeoverMilliseconds)
      }
    case .gaveUp(let problem):
      throw SessionProblem(description: "the database takes no flush: \(problem)")
    }
  }

  /// Stores everything taken so far.
  private func drain() throws {
    try awaitFlush()
    try seal()
    try awaitFlush()
  }

  /// Settles until no flush is under way: settling one that met a takeover seals the open batch, which is the next.
  private func awaitFlush() throws {
    while isFlushing { try settleFlush(waitMilliseconds: .max) }
  }

  // MARK: Partitions

  private func answer(_ rebalance: KafkaConsumer.Rebalance, _ consumer: KafkaConsumer) throws {
    switch rebalance {
    case .assigned(let partitions):
      try drain()
      try own(partitions.map(\.partition), consumer)
    case .revoked(let partitions, let lost):
      logger.info(
        "partitions revoked", metadata: ["count": "\(partitions.count)", "lost": "\(lost)"])
      // Lost ones may be another's already; the store decides, so that trying costs nothing.
      try drain()
      for partition in partitions { disown(partition.partition) }
      try consumer.unassign(partitions)
    }
    owned()
  }

  private func owned() {
    let partitions = accumulator.ownedPartitions
    processor.shares(partitions, isBehind: isBehind)
    metrics.ownedPartitions.set(partitions.count)
    health.report(settings.healthName("consumer"), problem: nil)
  }

  private func disown(_ partition: Int32) {
    forget(partition)
    if suspended.removeValue(forKey: partition) != nil { tell(partition, nil) }
    metrics.forget(partition)
  }

  private func forget(_ partition: Int32) {
    accumulator.disown(partition)
    processor.disown(partition)
    epochs[partition] = nil
  }

  private func tell(_ partition: Int32, _ problem: String?) {
    health.report(settings.healthName("partition \(partition)"), problem: problem)
  }

  /// Stops reading a partition that the group still assigns to this process.
  private func suspend(
    _ partition: Int32, _ problem: String, retryMilliseconds: Int = Pace.recheckMilliseconds
  ) throws {
    guard let consumer else { return }
    // Its share of the open batch must not meet what a later ownership counts.
    if accumulator.owns(partition) {
      forget(partition)
      if !isFlushing { try seal() }
    }
    suspended[partition] = (problem, Monotonic.milliseconds + retryMilliseconds)
    tell(partition, problem)
    logger.error(
      "a partition stands still", metadata: ["partition": "\(partition)", "problem": "\(problem)"])
    try consumer.unassign([TopicPartition(topic: settings.topic, partition: partition)])
    owned()
  }

  private func recheckSuspended(_ consumer: KafkaConsumer) throws {
    let now = Monotonic.milliseconds
    let due = suspended.filter { $0.value.retryAt <= now }.map(\.key)
    guard !due.isEmpty, try canGoOn(due, consumer) else { return }
    try drain()
    try own(due, consumer)
    owned()
  }

  /// Whether any of the partitions has a position to go on from; the others wait again. Asked first, since taking one back stores
  /// what all the others have.
  private func canGoOn(_ partitions: [Int32], _ consumer: KafkaConsumer) throws -> Bool {
    guard let connection else { return false }
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let rows = try store.stored(partitions)
    // One without a row is given one when it is claimed.
    var goesOn = rows.count < partitions.count
    for row in rows {
      let (low, high) = try consumer.watermarks(
        TopicPartition(topic: settings.topic, partition: row.partition),
        timeoutMilliseconds: 10_000)
      if Self.problem(row, low: low, high: high) == nil {
        goesOn = true
      } else {
        suspended[row.partition]?.retryAt = Monotonic.milliseconds + Pace.recheckMilliseconds
      }
    }
    return goesOn
  }

  /// Claims partitions in the store and begins to read them, each from where its window begins.
  ///
  /// - Precondition: the open batch is empty.
  private func own(_ partitions: [Int32], _ consumer: KafkaConsumer) throws {
    guard let connection else { return }
    var watermarks: [Int32: (low: Int64, high: Int64)] = [:]
    for partition in partitions {
      watermarks[partition] = try consumer.watermarks(
        TopicPartition(topic: settings.topic, partition: partition), timeoutMilliseconds: 10_000)
    }
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let claimed = try store.claim(
      partitions.sorted().map { ($0, watermarks[$0]!.low) }, owner: owner)
    try store.window(for: claimed, configured: settings.dedupeWindowOffsets)
    var producers: [Int32: [ProducerState]] = [:]
    for row in try store.producers(partitions) {
      var state = ProducerState(name: Array(row.producer.utf8))
      state.sequence = row.sequence
      state.deadSequence = row.deadSequence
      state.counted = row.counted
      state.duplicates = row.duplicates
      state.repeated = row.repeated
      state.deadLettered = row.deadLettered
      producers[row.partition, default: []].append(state)
    }
    let inheritance = try WindowInheritance(settings, connection)
    var starts: [(TopicPartition, offset: Int64)] = []
    var owned: [OffsetStore.Stored] = []
    for row in claimed {
      var (low, high) = watermarks[row.partition]!
      if row.nextOffset > high {
        // Asked before the claim, so an earlier owner may have stored records since that had not been there then.
        (low, high) = try consumer.watermarks(
          TopicPartition(topic: settings.topic, partition: row.partition),
          timeoutMilliseconds: 10_000)
      }
      if let problem = Self.problem(row, low: low, high: high) {
        suspended[row.partition] = (problem, Monotonic.milliseconds + Pace.recheckMilliseconds)
        tell(row.partition, problem)
        continue
      }
      if suspended.removeValue(forKey: row.partition) != nil {
        tell(row.partition, nil)
        logger.info("a partition goes on", metadata: ["partition": "\(row.partition)"])
      }
      var remembered: (offset: Int64, hash: Int64)?
      if let offset = row.lastRecordOffset, let hash = row.lastRecordHash, offset >= low {
        remembered = (offset, hash)
      }
      let window = row.nextOffset - Int64(settings.dedupeWindowOffsets)
      let readFrom = max(low, min(window, remembered?.offset ?? row.nextOffset))
      epochs[row.partition] = row.logEpoch
      let inherited = inheritance.segments(for: row)
      accumulator.own(
        row.partition, readFrom: inherited.first.map { $0.from + $0.shift } ?? readFrom,
        nextOffset: row.nextOffset,
        windowOffsets: settings.dedupeWindowOffsets, remembered: remembered,
        producers: producers[row.partition] ?? [],
        deadLetters: settings.rules.keepsDeadLetters
          ? try store.deadLetters(of: row, from: readFrom)
            .union(inheritance.deadLetters(inherited, of: row, store)) : [])
      for segment in inherited {
        try inheritance.read(segment) { views in
          _ = try accumulator.take(
            views, of: row.partition, requeues: [], into: batch, resolveImports: registered)
        }
      }
      if let last = inherited.last {
        accumulator.reachedEnd(row.partition, at: last.to + last.shift)
      }
      starts.append((TopicPartition(topic: settings.topic, partition: row.partition), readFrom))
      owned.append(row)
    }
    try processor.own(owned, connection)
    try consumer.assign(starts)
    logger.info("partitions assigned", metadata: ["count": "\(starts.count)"])
  }

  /// Why a stored position cannot be gone on from, or nil.
  private static func problem(_ row: OffsetStore.Stored, low: Int64, high: Int64) -> String? {
    if row.nextOffset > high {
      return
        "the log ends at \(high), before the stored offset \(row.nextOffset): the topic was made anew or truncated; run: meterctl topics new-epoch"
    }
    if row.nextOffset < low {
      return
        "the log begins at \(low), behind the stored offset \(row.nextOffset): records are gone; run: meterctl topics accept-gap"
    }
    return nil
  }

  // MARK: Telling

  private func report(_ consumer: KafkaConsumer) {
    let now = Monotonic.milliseconds
    guard now - lastReport >= Pace.reportMilliseconds else { return }
    lastReport = now
    lag = 0
    for partition in accumulator.ownedPartitions {
      let tp = TopicPartition(topic: settings.topic, partition: partition)
      if let high = consumer.cachedHighWatermark(tp),
        let position = accumulator.position(of: partition)
      {
        metrics.lag(partition, max(0, high - position))
        lag += max(0, high - position)
      }
    }
    processor.shares(accumulator.ownedPartitions, isBehind: isBehind)
    metrics.rebuildingPartitions.set(
      accumulator.ownedPartitions.count { accumulator.isRebuilding($0) })
    metrics.haltedPartitions.set(suspended.count)
    metrics.batchBytes.set(batch.table.bytes)
    if let error = consumer.takeErrors().last {
      logger.warning("Kafka", metadata: ["error": "\(error)"])
      health.report(settings.healthName("kafka"), problem: "\(error)")
      kafkaProblemSince = now
    } else if kafkaProblemSince > 0, now - kafkaProblemSince > 5_000 {
      // librdkafka repeats its error while the cause lasts; five quiet seconds mean that it is gone.
      kafkaProblemSince = 0
      health.report(settings.healthName("kafka"), problem: nil)
    }
  }

  private var kafkaProblemSince = 0
}
