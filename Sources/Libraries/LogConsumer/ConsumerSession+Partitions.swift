import KafkaTransport
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// From an assignment to reading, and back. Each partition is judged by itself, by the inspector's
/// answers; nothing here waits for Kafka.
extension ConsumerSession {
  // MARK: Rebalances

  func answer(_ rebalance: KafkaConsumer.Rebalance, _ consumer: KafkaConsumer) throws {
    switch rebalance {
    case .assigned(let partitions):
      // Answered before anything that can fail: a rebalance without an answer holds up the group,
      // and the client's end. The partitions follow one by one as they are claimed.
      try consumer.assign([])
      let now = Monotonic.milliseconds
      for partition in partitions.map(\.partition) where machines[partition] == nil {
        machines[partition] = PartitionMachine(assignedAt: now)
      }
      logger.info("partitions assigned", metadata: ["count": .stringConvertible(partitions.count)])
    case .revoked(let partitions, let lost):
      logger.info(
        "partitions revoked",
        metadata: ["count": .stringConvertible(partitions.count), "lost": "\(lost)"])
      // Lost ones may be another's already; the store decides, so that trying costs nothing.
      var failure: (any Error)?
      do { try drain() } catch { failure = error }
      for partition in partitions {
        forget(partition.partition)
        stopped.remove(partition.partition)
        machines[partition.partition] = nil
        metrics.forget(partition.partition)
      }
      try consumer.unassign(partitions)
      if let failure { throw failure }
    }
    shareChanged()
    groupAnswered()
  }

  private func forget(_ partition: Int32) {
    accumulator.disown(partition)
    processor.disown(partition)
    reading.remove(partition)
    epochs[partition] = nil
    storedRows[partition] = nil
    anchors[partition] = nil
    badLooks[partition] = nil
    passedOver[partition] = nil
    recordedHalts[partition] = nil
  }

  // MARK: Stops

  /// Stops reading partitions whose log may have changed, and has them looked at. They are held: if
  /// the log is the same they go on where they stand.
  func doubt(_ partitions: [Int32]) {
    let now = Monotonic.milliseconds
    for partition in partitions where machines[partition]?.doubted(at: now) == true {
      reading.remove(partition)
      stopped.insert(partition)
    }
  }

  /// Tells Kafka's client which partitions are not read any more: between rebalances only, since
  /// librdkafka would take it for the answer to one.
  func unassignStopped(_ consumer: KafkaConsumer) throws {
    if stopped.isEmpty { return }
    defer { stopped.removeAll() }
    try consumer.unassign(
      stopped.sorted().map { TopicPartition(topic: settings.topic, partition: $0) })
  }

  /// Before a batch is used: what was fetched after the sign of a change may be of another log.
  func heedDoubts(_ consumer: KafkaConsumer) {
    let unseated = consumer.takeUnseated()
    for error in unseated.values {
      logger.warning("a partition was not set back", metadata: ["error": "\(error)"])
    }
    doubt(unseated.keys.map(\.partition))
    let doubts = consumer.takeDoubts()
    if doubts.isEmpty { return }
    if doubts.concernsAll {
      doubt(Array(reading))
    } else {
      doubt(doubts.partitions.filter { $0.topic == settings.topic }.map(\.partition))
    }
  }

  /// Stops reading a partition that the group still assigns to this process, and forgets it.
  func stop(_ partition: Int32, _ standstill: Standstill) throws {
    machines[partition]?.stopped(standstill, at: Monotonic.milliseconds)
    try drop(partition)
  }

  /// Stops a partition whose remembered record is not in the log.
  func stopAnotherLog(_ partition: Int32, at offset: Int64) throws {
    let next = accumulator.position(of: partition) ?? offset + 1
    guard let standstill = LogContinuity.another(offset: offset).standstill(next: next) else {
      return
    }
    try stop(partition, standstill)
  }

  private func drop(_ partition: Int32) throws {
    let row = storedRows[partition]
    let wasOwned = accumulator.owns(partition)
    forget(partition)
    storedRows[partition] = row
    // Its share of the open batch must not meet what a later ownership counts.
    if wasOwned, !isFlushing { try seal() }
    stopped.insert(partition)
    shareChanged()
  }

  // MARK: Looks

  /// Takes what the inspector says, and asks it what is due.
  func followPartitions(_ consumer: KafkaConsumer) throws {
    try unassignStopped(consumer)
    for answers in inspector.take() { try take(answers, consumer) }
    let now = Monotonic.milliseconds
    if now >= nextStoreLook {
      nextStoreLook = now + Pace.storeMilliseconds
      try lookForRemedies(now)
    }
    if reading.count < machines.count { try askWhatIsDue(now) }
    if inspector.isIdle {
      if kafka.wantsProbe(at: now) { inspector.ask([]) }
    } else if inspector.isStuck(at: now) {
      throw SessionProblem(description: "the Kafka client does not answer for its partitions")
    }
    if now >= nextWatch, inspector.isIdle {
      nextWatch = now + Pace.watchMilliseconds
      watch()
    }
  }

  private func askWhatIsDue(_ now: Int) throws {
    let due = machines.filter { $0.value.isDue(at: now) }.map(\.key).sorted()
    guard !due.isEmpty, let connection else { return }
    var wantsLows = false
    if due.contains(where: { machines[$0]?.isHeld == false }) {
      let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
      let rows = try store.stored()
      wantsLows = rows.isEmpty
      let byPartition = Dictionary(uniqueKeysWithValues: rows.map { ($0.partition, $0) })
      for partition in due where machines[partition]?.isHeld == false {
        storedRows[partition] = byPartition[partition]
        if byPartition[partition] == nil, let newest = rows.last?.partition, partition > newest {
          machines[partition]?.stopped(Self.isNew(partition, after: newest), at: now)
        }
      }
    }
    var questions: [LogQuestion] = []
    for partition in due where machines[partition]?.isDue(at: now) == true {
      lastTicket += 1
      machines[partition]?.looks(ticket: lastTicket)
      questions.append(question(partition))
    }
    if !questions.isEmpty { inspector.ask(questions, wantsLows: wantsLows) }
  }

  private static func isNew(_ partition: Int32, after newest: Int32) -> Standstill {
    Standstill(
      .newPartition,
      """
      partition \(partition) is new: when this group began to count, the topic had \(newest + 1) \
      partitions. Keys have moved, so that events that are sent again would count twice; run: \
      meterctl topics grow (or, if the topic was made anew, meterctl topics new-epoch)
      """)
  }

  private func question(_ partition: Int32) -> LogQuestion {
    var question = LogQuestion(partition: partition, ticket: lastTicket)
    if machines[partition]?.isHeld == true {
      question.remembered = accumulator.remembered(of: partition)
    } else if let row = storedRows[partition] {
      if let offset = row.lastRecordOffset, let hash = row.lastRecordHash {
        question.remembered = (offset, hash)
      }
      if let offset = machines[partition]?.standstill?.offset, row.nextOffset <= offset {
        question.unreadable = offset
      }
    }
    return question
  }

  /// An operator may have begun a new epoch, or accepted a gap.
  private func lookForRemedies(_ now: Int) throws {
    let halted = machines.filter { $0.value.standstill?.isHalt == true }.map(\.key)
    guard !halted.isEmpty, let connection else { return }
    try record(halted, connection)
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let rows = Dictionary(
      uniqueKeysWithValues: try store.stored(halted).map { ($0.partition, $0) })
    for partition in halted where !Self.isSame(rows[partition], storedRows[partition]) {
      machines[partition]?.storeChanged(at: now)
    }
  }

  /// For `meterctl status`, and for whoever looks after a restart.
  private func record(_ halted: [Int32], _ connection: PostgresConnection) throws {
    var news: [PartitionHaltStore.Halt] = []
    for partition in halted {
      guard let standstill = machines[partition]?.standstill,
        recordedHalts[partition] != standstill.detail
      else { continue }
      recordedHalts[partition] = standstill.detail
      news.append(
        PartitionHaltStore.Halt(
          group: settings.group, topic: settings.topic, partition: partition,
          reason: standstill.detail, remedy: standstill.remedy))
    }
    try PartitionHaltStore(connection).record(news)
  }

  /// Claims aside, which do not matter here.
  private static func isSame(_ a: OffsetStore.Stored?, _ b: OffsetStore.Stored?) -> Bool {
    var (a, b) = (a, b)
    a?.claimedBy = nil
    b?.claimedBy = nil
    return a == b
  }

  // MARK: Answers

  private func take(_ answers: LogAnswers, _ consumer: KafkaConsumer) throws {
    let now = Monotonic.milliseconds
    if answers.isAlive {
      kafka.isAlive(since: answers.askedAt)
    } else {
      kafka.isSilent(answers.error, at: now)
    }
    if !answers.lows.isEmpty, let connection {
      try OffsetStore(connection, group: settings.group, topic: settings.topic)
        .open(answers.lows)
    }
    var claims: [(partition: Int32, look: LogLook)] = []
    var resumed: [(TopicPartition, offset: Int64)] = []
    for answer in answers.answers {
      let partition = answer.question.partition
      if answer.question.ticket == 0 {
        try watched(answer)
        continue
      }
      let finding = finding(answer)
      switch machines[partition]?.answered(ticket: answer.question.ticket, finding, at: now) {
      case .claim:
        if case .success(let look) = answer.result { claims.append((partition, look)) }
      case .goOn:
        guard let position = accumulator.position(of: partition) else { continue }
        reading.insert(partition)
        resumed.append((TopicPartition(topic: settings.topic, partition: partition), position))
      case .drop:
        // What was read before the doubt is of the log that was counted.
        try drain()
        try drop(partition)
      case .wait, .ignore, nil: break
      }
    }
    try unassignStopped(consumer)
    if !resumed.isEmpty { try consumer.assign(resumed) }
    if !claims.isEmpty { try own(claims, consumer) }
  }

  private func finding(_ answer: LogAnswer) -> PartitionMachine.Finding {
    let partition = answer.question.partition
    switch answer.result {
    case .failure(let error):
      if error.isBadBatch {
        if let known = machines[partition]?.standstill, known.cause == .badBatch {
          return .stands(known)
        }
        return .stands(
          Standstill(.badBatch, "the batch of the remembered record fails its checksum"))
      }
      return .stands(Standstill(.unreachable, "Kafka does not serve it: \(error.summary)"))
    case .success(let look):
      let isHeld = machines[partition]?.isHeld == true
      let next =
        isHeld ? accumulator.position(of: partition) : storedRows[partition]?.nextOffset
      // Not claimed ever: it begins at the low watermark.
      guard let next, next >= 0 else { return .fine }
      let continuity = LogContinuity(
        next: next, remembered: answer.question.remembered?.offset, look)
      return continuity.standstill(next: next).map { .stands($0) } ?? .fine
    }
  }

  /// Claims partitions in the store and begins to read them, each from where its window begins.
  private func own(_ found: [(partition: Int32, look: LogLook)], _ consumer: KafkaConsumer) throws {
    guard let connection else { return }
    // No batch mixes two ownerships of a partition.
    try drain()
    let looks = Dictionary(uniqueKeysWithValues: found.map { ($0.partition, $0.look) })
    let partitions = looks.keys.sorted()
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let claimed = try store.claim(partitions.map { ($0, looks[$0]!.low) }, owner: owner)
    var owned: [OffsetStore.Stored] = []
    let now = Monotonic.milliseconds
    for row in claimed {
      guard let look = looks[row.partition] else { continue }
      // An earlier owner may have stored records since the log was looked at.
      let isAsLookedAt = Self.isSame(row, storedRows[row.partition])
      let wasUnclaimed = (storedRows[row.partition]?.nextOffset ?? -1) < 0
      storedRows[row.partition] = row
      if !isAsLookedAt, !wasUnclaimed {
        machines[row.partition]?.looksAgain(at: now)
      } else if let problem = LogContinuity(
        next: row.nextOffset, remembered: row.lastRecordOffset, look
      ).standstill(next: row.nextOffset) {
        machines[row.partition]?.stopped(problem, at: now)
      } else {
        owned.append(row)
      }
    }
    if owned.isEmpty { return }
    try begin(owned, looks, store, connection, consumer)
  }

  private func begin(
    _ owned: [OffsetStore.Stored], _ looks: [Int32: LogLook], _ store: OffsetStore,
    _ connection: PostgresConnection, _ consumer: KafkaConsumer
  ) throws {
    try store.window(for: owned, configured: settings.dedupeWindowOffsets)
    let producers = try producerStates(owned.map(\.partition), store)
    let inheritance = try WindowInheritance(settings, connection)
    var starts: [(TopicPartition, offset: Int64)] = []
    var begun: [OffsetStore.Stored] = []
    for row in owned {
      let low = looks[row.partition]!.low
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
      guard try inherit(inherited, inheritance, row.partition) else { continue }
      begun.append(row)
      anchors[row.partition] = remembered
      starts.append((TopicPartition(topic: settings.topic, partition: row.partition), readFrom))
    }
    try processor.own(begun, connection)
    try PartitionHaltStore(connection).clear(
      group: settings.group, topic: settings.topic, partitions: begun.map(\.partition))
    try unassignStopped(consumer)
    try consumer.assign(starts)
    for row in begun { recordedHalts[row.partition] = nil }
    for row in begun {
      machines[row.partition]?.claimed()
      reading.insert(row.partition)
    }
    logger.info("partitions claimed", metadata: ["count": .stringConvertible(starts.count)])
    shareChanged()
  }

  /// Fills the window of a partition of a grown topic with what it inherits.
  ///
  /// - Returns: false if the parent cannot be read now: the partition waits.
  private func inherit(
    _ segments: [WindowAncestry.Segment], _ inheritance: WindowInheritance, _ partition: Int32
  ) throws -> Bool {
    do {
      for segment in segments {
        try inheritance.read(segment) { views in
          _ = try accumulator.take(
            views, of: partition, requeues: [], into: batch, resolveImports: registered)
        }
      }
    } catch let error as KafkaError {
      forget(partition)
      machines[partition]?.stopped(
        Standstill(.unreachable, "Kafka does not serve its parent: \(error.summary)"),
        at: Monotonic.milliseconds)
      return false
    }
    if let last = segments.last {
      accumulator.reachedEnd(partition, at: last.to + last.shift)
    }
    return true
  }

  private func producerStates(
    _ partitions: [Int32], _ store: OffsetStore
  ) throws -> [Int32: [ProducerState]] {
    var producers: [Int32: [ProducerState]] = [:]
    for row in try store.producers(partitions, latest: settings.rules.maxProducers) {
      var state = ProducerState(name: Array(row.producer.utf8))
      state.lastOffset = row.lastOffset
      state.sequence = row.sequence
      state.deadSequence = row.deadSequence
      producers[row.partition, default: []].append(state)
    }
    return producers
  }

  // MARK: Watching

  /// Compares the log ends of all partitions that are read with their positions, and the record
  /// that one of them was last recognized by with the log.
  private func watch() {
    let partitions = reading.sorted()
    guard !partitions.isEmpty else { return }
    let chosen = partitions.first { $0 >= nextAnchor } ?? partitions[0]
    nextAnchor = chosen + 1
    inspector.ask(
      partitions.map { partition in
        var question = LogQuestion(partition: partition, ticket: 0)
        question.position = accumulator.position(of: partition)
        if partition == chosen {
          question.remembered = anchors[partition] ?? accumulator.remembered(of: partition)
        }
        return question
      })
  }

  private func watched(_ answer: LogAnswer) throws {
    let partition = answer.question.partition
    guard reading.contains(partition) else { return }
    guard case .success(let look) = answer.result else {
      // One answer that is missing says little on a busy machine.
      badLooks[partition, default: 0] += 1
      if badLooks[partition, default: 0] > 1 { doubt([partition]) }
      return
    }
    badLooks[partition] = nil
    if let position = answer.question.position, look.high < position {
      doubt([partition])
      return
    }
    guard let remembered = answer.question.remembered else { return }
    if look.identity == .differs {
      try stopAnotherLog(partition, at: remembered.offset)
    } else {
      anchors[partition] = accumulator.remembered(of: partition)
    }
  }
}
