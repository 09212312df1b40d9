import EventCodec
import Metering
import MeteringTestKit
import Recount
import Testing
import UsageAggregation

/// A small version of the aggregator's session. It takes runs, seals, stores, loses partitions and
/// starts over, all at random.
private struct Session: ~Copyable {
  let log: PartitionLog
  let window: Int
  let store = ByteStore()
  let views: [[LogRecordView]]
  var random: SeededRandom
  var accumulator: LogAccumulator
  var open: LogBatch
  /// The batch that is sealed and on its way to the store.
  var inFlight: LogBatch?
  var model = ModelStore()
  /// The index of the record that each partition fetches next.
  var next: [Int]
  var owned: Set<Int32> = []
  var askedImports = 0

  let settings: LogAccumulator.Settings

  init(_ log: PartitionLog, window: Int, maxProducers: Int, _ random: SeededRandom) {
    self.log = log
    self.window = window
    var settings = LogAccumulator.Settings()
    settings.maxProducers = maxProducers
    self.settings = settings
    self.random = random
    let store = store
    views = log.records.map { records in
      records.map { record in
        LogRecordView(
          offset: record.offset, timestamp: record.timestamp,
          value: record.value.map(store.copy), key: record.key.map(store.copy))
      }
    }
    accumulator = LogAccumulator(settings: settings, hash: fixedHash)
    open = accumulator.makeBatch()
    next = log.records.map { _ in 0 }
  }

  mutating func own(_ partition: Int32) {
    let stored = model.positions[partition] ?? ModelStore.Position()
    let begin = stored.nextOffset - Int64(window)
    let readFrom = max(0, min(begin, stored.remembered?.offset ?? stored.nextOffset))
    accumulator.own(
      partition, readFrom: readFrom, nextOffset: stored.nextOffset, windowOffsets: window,
      remembered: stored.remembered,
      producers: (model.producers[partition] ?? [:]).values.filter { !$0.isForgotten }
        .shuffled(using: &random))
    owned.insert(partition)
    let records = log.records[Int(partition)]
    next[Int(partition)] = records.firstIndex { $0.offset >= readFrom } ?? records.count
    #expect(accumulator.isRebuilding(partition) == (readFrom < stored.nextOffset))
  }

  mutating func disown(_ partition: Int32) {
    accumulator.disown(partition)
    owned.remove(partition)
  }

  mutating func settle(lost: Set<Int32> = []) {
    guard let batch = inFlight else { return }
    model.write(batch, lost: lost)
    accumulator.settled(batch)
    inFlight = nil
  }

  mutating func seal() {
    settle()
    accumulator.seal(open)
    inFlight = open
    open = accumulator.makeBatch()
  }

  mutating func drain() {
    seal()
    settle()
  }

  /// The process ends without a word, and a successor starts.
  mutating func crash() {
    if random.chance(50) { settle() }
    inFlight = nil
    let hash = KeyedHash(seed: (random.next(), random.next(), random.next(), random.next()))
    accumulator = LogAccumulator(settings: settings, hash: hash)
    open = accumulator.makeBatch()
    let partitions = owned
    for partition in partitions.sorted() { own(partition) }
  }

  mutating func takeRun(of partition: Int32) {
    let p = Int(partition)
    // A fetch may bring some records that have been handled already.
    let first = max(0, next[p] - (random.chance(10) ? Int.random(in: 0...5, using: &random) : 0))
    let last = min(views[p].count, next[p] + random.pick([1, 2, 10, 60, 300]))
    var requeues: [DeadLetterKey?] = []
    var run = Array(views[p][first..<last])
    for i in run.indices {
      guard let header = log.records[p][first + i].deadLetterHeader else { continue }
      run[i].requeueIndex = Int32(requeues.count)
      let key = DeadLetterKey(header, log.records[p][first + i].value)
      requeues.append(model.requeued.contains(key) ? nil : key)
    }
    var asked = 0
    let taken = run.withUnsafeBufferPointer { records in
      accumulator.take(records, of: partition, requeues: requeues, into: open) { names in
        asked += 1
        return PartitionLog.imports.filter { names.contains($0.key) }
      }
    }
    askedImports += asked
    #expect(taken == run.count)
    next[p] = last
    if last == views[p].count { accumulator.reachedEnd(partition, at: log.end(p)) }
    #expect(accumulator.halt(of: partition) == nil)
  }

  mutating func step() {
    let partition = Int32.random(in: 0..<Int32(log.records.count), using: &random)
    switch Int.random(in: 0..<100, using: &random) {
    case 0..<70: if owned.contains(partition) { takeRun(of: partition) }
    case 70..<78: seal()
    case 78..<84: settle()
    case 84..<90:
      // Another process has claimed the partition. What is in flight for it is refused, and what is
      // open is left out.
      let isInFlight = inFlight?.progress.contains { $0.partition == partition } ?? false
      if isInFlight, owned.contains(partition) {
        settle(lost: [partition])
        disown(partition)
      }
    case 90..<93: crash()
    default:
      drain()
      if owned.contains(partition) { disown(partition) } else { own(partition) }
    }
  }

  mutating func finish() {
    drain()
    for partition in 0..<Int32(log.records.count) {
      if !owned.contains(partition) { own(partition) }
      while next[Int(partition)] < views[Int(partition)].count { takeRun(of: partition) }
      takeRun(of: partition)
    }
    drain()
  }
}

@Suite("Agreement of the accumulator with the recount")
struct RecountAgreementTests {
  @Test(
    "However a log is split, flushed, lost and read again, all counts are those of the recount",
    arguments: [1, 2, 7, 20, 64], 0..<8)
  func agrees(window: Int, round: Int) {
    // All, two or one of the three producers are remembered.
    check(window, round, maxProducers: [4_096, 2, 1][round % 3])
  }

  private func check(_ window: Int, _ round: Int, maxProducers: Int) {
    var random = SeededRandom(of: "agrees(window: \(window), round: \(round))")
    for _ in 0..<(window * 100 + round) { _ = random.next() }
    let log = PartitionLog(
      partitions: 3, records: 300, window: window, SeededRandom(seed: random.next()))
    var session = Session(
      log, window: window, maxProducers: maxProducers, SeededRandom(seed: random.next()))
    for partition in 0..<Int32(3) { session.own(partition) }
    // Round 0 is plain: everything comes once and in order.
    if round > 0 { for _ in 0..<150 { session.step() } }
    session.finish()
    let model = session.model
    let problems = model.problems
    #expect(problems == [])
    compare(model, log, window: window, maxProducers: maxProducers)
  }

  private func compare(
    _ model: ModelStore, _ log: PartitionLog, window: Int, maxProducers: Int
  ) {
    let settings = RecountSettings(
      maxProducers: maxProducers,
      importBatches: Dictionary(
        uniqueKeysWithValues: PartitionLog.imports.map { ($0.key, $0.value) }),
      windows: { _ in [WindowSize(fromOffset: 0, size: Int64(window))] })
    var result = RecountResult()
    var reports = 0
    var requeued: Set<DeadLetterKey> = []
    var causes: [String: Int] = [:]
    for (partition, records) in log.records.enumerated() {
      var recount = PartitionRecount(
        partition: Int32(partition), settings: settings, countFrom: 0)
      for record in records {
        let decision = recount.feed(record)
        switch decision {
        case .counted, .duplicate:
          if let header = record.deadLetterHeader {
            requeued.insert(DeadLetterKey(header, record.value))
          }
        default: break
        }
        switch decision {
        case .report: reports += 1
        case .counted: causes["counted", default: 0] += 1
        case .duplicate(_, let cause): causes[cause.rawValue, default: 0] += 1
        case .deadLetter(let reason, _): causes[reason, default: 0] += 1
        }
      }
      result.merge(recount)
      compareProducers(model.producers[Int32(partition)] ?? [:], recount)
      #expect(model.positions[Int32(partition)]?.nextOffset == log.end(partition))
    }
    #expect(rows(of: model) == result.totals.rows)
    #expect(dimensions(of: model) == result.dimensionTotals)
    #expect(provenance(of: model) == result.provenance)
    #expect(model.deadLetters == result.deadLetters)
    #expect(model.reports == reports)
    #expect(model.requeued == requeued)
    // The log must contain every cause that has to be told apart.
    for cause in [
      "counted", "sequence", "id", "requeued", "tombstone", "not_json", "too_old", "key_mismatch",
    ] {
      #expect(causes[cause, default: 0] > 0, "\(causes)")
    }
  }

  private func compareProducers(_ states: [[UInt8]: ProducerState], _ recount: PartitionRecount) {
    let names = Set(recount.sequences.keys).union(recount.deadLetteredSequences.keys)
    #expect(
      Set(states.values.filter { !$0.isForgotten }.map(\.name))
        == Set(names.map { bytes($0.string) }))
    for name in names.union(recount.ledger.keys) {
      guard let state = states[bytes(name.string)] else { continue }
      let entry = recount.ledger[name] ?? LedgerEntry()
      #expect(state.sequence == recount.sequences[name] ?? -1)
      #expect(state.deadSequence == recount.deadLetteredSequences[name] ?? -1)
      #expect(state.counted == entry.counted)
      #expect(state.duplicates == entry.duplicates)
      #expect(state.repeated == entry.repeated)
      #expect(state.deadLettered == entry.deadLettered)
    }
  }

  private func text(_ bytes: [UInt8]) -> ExactText {
    ExactText(String(decoding: bytes, as: UTF8.self))
  }

  private func rows(of model: ModelStore) -> [UsageKey: Tally] {
    var rows: [UsageKey: Tally] = [:]
    for (row, sum) in model.rows where row.kind == .minute {
      let key = UsageKey(
        license: text(row.license), meter: text(row.meter),
        minuteStart: Int64(row.hour) * 60 + Int64(row.value[0]))
      rows[key, default: Tally()].add(Tally(quantity: sum.quantity, eventCount: sum.events))
    }
    return rows
  }

  private func dimensions(of model: ModelStore) -> [DimensionKey: Tally] {
    var rows: [DimensionKey: Tally] = [:]
    for (row, sum) in model.rows {
      guard let kind = row.kind, kind != .minute else { continue }
      let key = DimensionKey(
        license: text(row.license), meter: text(row.meter),
        dayStart: floorDivide(Int64(row.hour), by: 24) * 1_440,
        dimension: kind == .domain ? .domain : .feature, value: text(row.value))
      rows[key, default: Tally()].add(Tally(quantity: sum.quantity, eventCount: sum.events))
    }
    return rows
  }

  private func provenance(of model: ModelStore) -> [RecountResult.ProvenanceKey: OffsetRange] {
    var ranges: [RecountResult.ProvenanceKey: OffsetRange] = [:]
    for (row, sum) in model.rows where row.kind == nil {
      let hour = PartitionRecount.ProvenanceKey(
        license: text(row.license), meter: text(row.meter), hourStart: Int64(row.hour) * 60)
      ranges[RecountResult.ProvenanceKey(partition: row.partition, hour: hour)] = OffsetRange(
        firstOffset: sum.first, lastOffset: sum.last)
    }
    return ranges
  }
}

extension DeadLetterKey {
  /// The letter that a record with this header and value requeues.
  fileprivate init(_ header: String, _ value: [UInt8]?) {
    self.init(header: bytes(header))!
    valueHash = Hexadecimal.text(value ?? [])
  }
}
