import MeteringTestKit
import UsageAggregation

/// A process ends in the middle of its work, or its session cannot go on.
struct SimulatedEnd: Error {}

/// One consumer. It drives the machines of this module as `ConsumerSession` and `Flusher` do, with
/// the simulation's log, store and clock.
final class SimulatedConsumer {
  enum Word {
    case assigned(Int32)
    case revoked(Int32)
  }

  private struct Question {
    var partition: Int32
    var ticket: Int
    var remembered: (offset: Int64, hash: Int64)?
  }

  private unowned let world: SimulatedWorld
  /// The owner, as in `consumer_offset.claimed_by`.
  let owner: Int
  var inbox: [Word] = []
  private var machines: [Int32: PartitionMachine] = [:]
  private var reading: Set<Int32> = []
  /// Where Kafka's client fetches next.
  private var fetches: [Int32: Int64] = [:]
  private var storedRows: [Int32: SimulatedStore.Row] = [:]
  private var accumulator: LogAccumulator
  private var batch: LogBatch
  private var spare: LogBatch?
  private var pacing = FlushPacing(interval: 50, catchUpInterval: 200, maximumEntries: 40)
  private var flush:
    (machine: FlushMachine, action: FlushMachine.Action, work: SimulatedFlush, batch: LogBatch)?
  private var questions: [Question] = []
  private var lastTicket = 0

  init(_ world: SimulatedWorld, owner: Int) {
    self.world = world
    self.owner = owner
    accumulator = LogAccumulator(settings: .init(), hash: fixedHash)
    batch = accumulator.makeBatch()
    spare = accumulator.makeBatch()
  }

  // MARK: Reading

  func poll(_ random: inout SeededRandom) throws {
    guard let partition = reading.sorted().randomElement(using: &random),
      let from = fetches[partition]
    else { return }
    let records = world.log.views[Int(partition)]
    let end = min(Int(from) + 1 + Int(random.next() % 12), records.count)
    if Int(from) >= end {
      let before = accumulator.position(of: partition)
      accumulator.reachedEnd(partition, at: Int64(records.count))
      if accumulator.position(of: partition) != before { pacing.endMoved(at: world.now) }
    } else {
      pacing.tookRecord(at: world.now)
      var taken = Int(from)
      while taken < end {
        taken += records.withUnsafeBufferPointer { records in
          accumulator.take(
            UnsafeBufferPointer(rebasing: records[taken..<end]), of: partition, requeues: [],
            into: batch, resolveImports: { _ in [:] })
        }
        if taken < end {
          try finishFlush()
          seal()
        }
      }
      fetches[partition] = Int64(end)
    }
    if case .logDiffers? = accumulator.halt(of: partition) {
      stop(partition, Standstill(.logDiffers, "another log"))
    }
  }

  func doubtAll() { for partition in reading.sorted() { doubt(partition) } }

  private func doubt(_ partition: Int32) {
    if machines[partition]?.doubted(at: world.now) == true { reading.remove(partition) }
  }

  private func stop(_ partition: Int32, _ standstill: Standstill) {
    machines[partition]?.stopped(standstill, at: world.now)
    drop(partition)
  }

  private func drop(_ partition: Int32) {
    let wasOwned = accumulator.owns(partition)
    forget(partition)
    if wasOwned, flush == nil { seal() }
  }

  private func forget(_ partition: Int32) {
    accumulator.disown(partition)
    reading.remove(partition)
    fetches[partition] = nil
  }

  // MARK: The group

  func listen() throws {
    guard !inbox.isEmpty else { return }
    switch inbox.removeFirst() {
    case .assigned(let partition):
      if machines[partition] == nil {
        machines[partition] = PartitionMachine(assignedAt: world.now)
      }
    case .revoked(let partition):
      try drain()
      forget(partition)
      storedRows[partition] = nil
      machines[partition] = nil
    }
  }

  // MARK: Looks

  func ask() throws {
    for (partition, machine) in machines.sorted(by: { $0.key < $1.key })
    where machine.isDue(at: world.now) {
      try world.effect()
      if !machine.isHeld { storedRows[partition] = world.store.rows[Int(partition)] }
      lastTicket += 1
      machines[partition]?.looks(ticket: lastTicket)
      questions.append(
        Question(
          partition: partition, ticket: lastTicket,
          remembered: machine.isHeld
            ? accumulator.remembered(of: partition) : storedRows[partition]?.remembered))
    }
  }

  func answer(isUnreachable: Bool) throws {
    guard !questions.isEmpty else { return }
    try world.effect()
    let question = questions.removeFirst()
    let partition = question.partition
    guard let machine = machines[partition] else { return }
    let look = world.log.look(partition, remembered: question.remembered)
    var finding = PartitionMachine.Finding.fine
    let next =
      machine.isHeld ? accumulator.position(of: partition) : storedRows[partition]?.next
    if isUnreachable {
      finding = .stands(Standstill(.unreachable, "away"))
    } else if let next,
      let found = LogContinuity(next: next, remembered: question.remembered?.offset, look)
        .standstill(next: next)
    {
      finding = .stands(found)
    }
    switch machines[partition]?.answered(ticket: question.ticket, finding, at: world.now) {
    case .claim: try own(partition, look)
    case .goOn:
      reading.insert(partition)
      fetches[partition] = accumulator.position(of: partition)
    case .drop:
      try drain()
      drop(partition)
    case .wait, .ignore, nil: break
    }
  }

  private func own(_ partition: Int32, _ look: LogLook) throws {
    try drain()
    try world.effect()
    let row = world.store.claim(partition, by: owner)
    let known = storedRows[partition]
    storedRows[partition] = row
    if row.next != known?.next || row.remembered?.hash != known?.remembered?.hash {
      machines[partition]?.looksAgain(at: world.now)
      return
    }
    let continuity = LogContinuity(next: row.next, remembered: row.remembered?.offset, look)
    if let found = continuity.standstill(next: row.next) {
      machines[partition]?.stopped(found, at: world.now)
      return
    }
    accumulator.own(
      partition, readFrom: 0, nextOffset: row.next, windowOffsets: 1_024,
      remembered: row.remembered, producers: [])
    fetches[partition] = 0
    machines[partition]?.claimed()
    reading.insert(partition)
  }

  // MARK: Flushing

  func flushIfDue() {
    let entries = batch.table.groupCount + batch.table.cellCount
    if flush == nil, pacing.isDue(at: world.now, entries: entries) { seal() }
  }

  private func seal() {
    precondition(flush == nil, "one flush at a time")
    accumulator.seal(batch)
    pacing.sealed()
    if batch.progress.isEmpty {
      batch.reset()
      return
    }
    guard let next = spare else { return }
    spare = nil
    var work = SimulatedFlush(owner: owner)
    for progress in batch.progress {
      work.parts[progress.partition] = .init(
        expected: progress.expectedOffset, next: progress.nextOffset,
        remembered: progress.lastRecordOffset < 0
          ? nil : (progress.lastRecordOffset, progress.lastRecordHash), counted: 0)
    }
    batch.table.forEachGroup { group, _, _, _ in
      work.parts[group.partition]?.counted += group.eventCount
    }
    let machine = FlushMachine(
      partitions: Set(work.parts.keys), movesOffsets: true, startedAt: world.now)
    let action = machine.start()
    flush = (machine, action, work, batch)
    batch = next
  }

  /// One step of the flusher's thread.
  func stepFlush() throws {
    guard var current = flush else { return }
    try world.effect()
    switch current.action {
    case .write(let partitions):
      current.action =
        switch world.store.write(current.work, partitions, fault: world.fault()) {
        case .committed: current.machine.committed()
        case .refused(let lost): current.machine.refused(lost)
        case .lost: current.machine.failed(.connectionLost, at: world.now, patience: 5_000)
        case .failed: current.machine.failed(.refusedByDatabase, at: world.now, patience: 5_000)
        }
    case .askFate(let partitions):
      current.action = current.machine.fate(world.store.fate(current.work, partitions))
    case .retry(let pause):
      world.now += pause
      current.action = current.machine.resumed()
    case .finish:
      flush = nil
      accumulator.settled(current.batch)
      current.batch.reset()
      spare = current.batch
      for partition in current.work.parts.keys
      where !current.machine.takenOver.contains(partition) {
        machines[partition]?.progressed()
      }
      for partition in current.machine.takenOver.sorted()
      where machines[partition]?.isHeld == true {
        stop(partition, Standstill(.takenOver, "another process has claimed it"))
      }
      return
    case .giveUp: throw SimulatedEnd()
    }
    flush = current
  }

  private func finishFlush() throws { while flush != nil { try stepFlush() } }

  private func drain() throws {
    try finishFlush()
    seal()
    try finishFlush()
  }
}
