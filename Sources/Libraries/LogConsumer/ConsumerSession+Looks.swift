import KafkaTransport
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Checks the logs of partitions: the questions for the inspector, and the reactions to its
/// answers. Nothing here waits for Kafka.
extension ConsumerSession {
  // MARK: Questions

  /// Takes the inspector's answers, and asks the questions that are due.
  func followPartitions(_ consumer: KafkaConsumer) throws {
    try unassignStopped(consumer)
    for answers in inspector.take() { try takeAnswers(answers, consumer) }
    let now = Monotonic.milliseconds
    if now >= nextStoreLook {
      nextStoreLook = now + ConsumerTiming.storeMilliseconds
      try lookForRemedies(now)
    }
    if now >= nextLossLook {
      nextLossLook = now + ConsumerTiming.lossMilliseconds
      try lookForLostCommits()
    }
    if reading.count < machines.count { try askWhatIsDue(now) }
    if inspector.isIdle {
      if kafka.wantsProbe(at: now) { inspector.ask([]) }
    } else if inspector.isStuck(at: now) {
      throw SessionProblem(description: "the Kafka client does not answer for its partitions")
    }
    if now >= nextWatch, inspector.isIdle {
      nextWatch = now + ConsumerTiming.watchMilliseconds
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

  /// Checks whether an operator has begun a new epoch or accepted a gap.
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

  /// Finds out whether the store has forgotten commits, as after a failover to a server that had not
  /// received them. A flush of the partition would be refused and show it, but a partition without
  /// events has none.
  ///
  /// - Throws: the reason to end the session. The next one begins where the store stands.
  private func lookForLostCommits() throws {
    guard !isFlushing, !reading.isEmpty, let connection else { return }
    let rows: [OffsetStore.Stored]
    do throws(PostgresError) {
      rows = try OffsetStore(connection, group: settings.group, topic: settings.topic)
        .stored(reading.sorted())
    } catch {
      // The flusher reports a database that does not answer. This connection is for the next look.
      if !connection.isOpen,
        let opened = try? PostgresConnection.toKnownSchema(
          url: settings.databaseURL, application: settings.group)
      {
        self.connection = opened
      }
      return
    }
    let offsets = Dictionary(uniqueKeysWithValues: rows.map { ($0.partition, $0.nextOffset) })
    for partition in reading.sorted() {
      // A database of before the first claim has no row of the partition.
      let offset = offsets[partition] ?? 0
      guard let left = leftAt[partition], offset < left else { continue }
      throw SessionProblem(
        description: """
          the database stands at offset \(offset) of partition \(partition), where it had stored \
          \(left) (was there a failover or a restore?); counting goes on from there
          """)
    }
  }

  /// Stores why partitions have halted, for `meterctl status` and for operators who look after a
  /// restart.
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

  /// Whether two rows are equal except for the claim, which does not matter here.
  static func isSame(_ a: OffsetStore.Stored?, _ b: OffsetStore.Stored?) -> Bool {
    var (a, b) = (a, b)
    a?.claimedBy = nil
    b?.claimedBy = nil
    return a == b
  }

  // MARK: Answers

  private func takeAnswers(_ answers: LogAnswers, _ consumer: KafkaConsumer) throws {
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
        // Everything that was read before the doubt belongs to the log that was counted.
        try drain()
        try drop(partition)
      case .wait, .ignore, nil: break
      }
    }
    try unassignStopped(consumer)
    if !resumed.isEmpty { try consumer.assign(resumed) }
    if !claims.isEmpty { try claim(claims, consumer) }
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
      // The partition was never claimed, so it begins at the low watermark.
      guard let next, next >= 0 else { return .fine }
      let continuity = LogContinuity(
        next: next, remembered: answer.question.remembered?.offset, look)
      return continuity.standstill(next: next).map { .stands($0) } ?? .fine
    }
  }

  // MARK: Watching

  /// Compares the log ends of all partitions that are being read with their positions. It also
  /// looks for the remembered record of one of them in the log.
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
      // A single missing answer means little on a busy machine.
      badLooks[partition, default: 0] += 1
      if badLooks[partition, default: 0] > 1 { doubt([partition]) }
      return
    }
    badLooks[partition] = nil
    if let asked = answer.question.position, let position = accumulator.position(of: partition) {
      movement.looked(
        partition, asked: asked, position: position, logEnd: look.high,
        at: Monotonic.milliseconds)
    }
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
