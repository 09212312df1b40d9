import EventCodec
package import Metering

/// Takes the records of the owned partitions to the next flush: it decodes and checks them, finds
/// duplicates, and counts usage or gathers suspicious validations.
///
/// Each consumer thread has one. It decides what is a duplicate before anything is stored, from the
/// log alone. So a partition's state (window, sequences) belongs to the process only while it owns
/// the partition; the next owner reads it from the log again.
package struct LogAccumulator: ~Copyable {
  /// Why a partition does not go on.
  package enum Halt: Equatable, Sendable {
    /// The record at that offset is not the one remembered: the topic was truncated or created
    /// again.
    case logDiffers(offset: Int64)
  }

  /// The records that are decoded together, between fetching their cache lines and using them.
  private static let lookahead = 256

  private let settings: Settings
  private let hash: KeyedHash
  private var decoder: EventDecoder
  var partitions: [Int32: OwnedPartition] = [:]
  private var imports: [Identifier: Int64] = [:]
  private let events: UnsafeMutablePointer<DecodedEvent>
  private let identities: UnsafeMutablePointer<Identity>
  private let groupHashes: UnsafeMutablePointer<UInt64>
  /// Dead letters whose requeued record was counted by a batch that may not be stored yet.
  var requeuedHere: Set<DeadLetterKey> = []
  private var sink: UInt64 = 0

  package init(settings: Settings, hash: KeyedHash) {
    self.settings = settings
    self.hash = hash
    decoder = EventDecoder(settings.reads, maxQuantity: settings.maxQuantity)
    events = .allocate(capacity: Self.lookahead)
    events.initialize(repeating: DecodedEvent(), count: Self.lookahead)
    identities = .allocate(capacity: Self.lookahead)
    identities.initialize(repeating: .none, count: Self.lookahead)
    groupHashes = .allocate(capacity: Self.lookahead)
    groupHashes.initialize(repeating: 0, count: Self.lookahead)
  }

  deinit {
    events.deallocate()
    identities.deallocate()
    groupHashes.deallocate()
  }

  /// An empty batch that this accumulator can fill.
  package func makeBatch() -> LogBatch { LogBatch(hash: hash) }

  // MARK: Partitions

  /// Begins to own a partition: reads from `readFrom` fill window only, those from `nextOffset`
  /// count.
  ///
  /// - Parameter deadLetters: offsets from `readFrom` on that were dead letters. They never enter
  ///   the window, whatever has been registered or configured since.
  package mutating func own(
    _ partition: Int32, readFrom: Int64, nextOffset: Int64, windowOffsets: Int,
    remembered: (offset: Int64, hash: Int64)?, producers: [ProducerState],
    deadLetters: Set<Int64> = []
  ) {
    partitions[partition] = OwnedPartition(
      PartitionState(
        partition: partition, readFrom: readFrom, nextOffset: nextOffset,
        windowOffsets: windowOffsets, remembered: remembered,
        producers: ProducerSequences(producers, hash: hash, maximum: settings.maxProducers),
        deadLetters: deadLetters))
  }

  /// Forgets a partition. Its share of open batches is dropped by whoever flushes them.
  package mutating func disown(_ partition: Int32) { partitions[partition] = nil }

  package func owns(_ partition: Int32) -> Bool { partitions[partition] != nil }
  package var ownedPartitions: [Int32] { partitions.keys.sorted() }
  package func position(of partition: Int32) -> Int64? { partitions[partition]?.state.position }
  /// The newest record that counts, by which the log can be recognized; nil: none was read yet.
  package func remembered(of partition: Int32) -> (offset: Int64, hash: Int64)? {
    guard let owned = partitions[partition] else { return nil }
    if let remembered = owned.state.remembered { return remembered }
    return owned.state.last >= 0 ? (owned.state.last, owned.state.lastHash) : nil
  }
  package func halt(of partition: Int32) -> Halt? { partitions[partition]?.state.halt }
  /// Whether the partition still reads what others have counted.
  package func isRebuilding(_ partition: Int32) -> Bool {
    guard let owned = partitions[partition] else { return false }
    return owned.state.position < owned.state.countFrom
  }

  package mutating func allow(importBatch: Identifier, from oldestTime: Int64) {
    imports[importBatch] = oldestTime
  }

  /// The partition's end: everything below `offset` has been seen, control records and gaps
  /// included.
  package mutating func reachedEnd(_ partition: Int32, at offset: Int64) {
    guard let owned = partitions[partition], owned.state.halt == nil,
      offset > owned.state.position
    else { return }
    if let remembered = owned.state.remembered, remembered.offset < offset {
      owned.state.halt = .logDiffers(offset: remembered.offset)
      return
    }
    owned.state.position = offset
  }

  // MARK: Records

  /// Takes records of one partition, in the order of their offsets.
  ///
  /// - Parameters:
  ///   - requeues: the dead letters that records' `requeueIndex` points to; `nil` entries were
  ///     counted before.
  ///   - resolveImports: asked for names of import batches that no earlier run resolved; returns
  ///     those that are registered, with their oldest time in milliseconds. Called at most once for
  ///     each 256 records. Where it throws, the records before those are taken: to go on, give the
  ///     same run again.
  /// - Returns: how many records were taken: fewer than given where the batch is full and must be
  ///   sealed first.
  package mutating func take(
    _ records: UnsafeBufferPointer<LogRecordView>, of partition: Int32,
    requeues: [DeadLetterKey?], into batch: LogBatch,
    resolveImports: ([Identifier]) throws -> [Identifier: Int64]
  ) rethrows -> Int {
    guard let owned = partitions[partition], owned.state.halt == nil else { return records.count }
    var taken = 0
    while taken < records.count {
      if batch.isFull { return taken }
      let chunk = UnsafeBufferPointer(
        rebasing: records[taken..<min(taken + Self.lookahead, records.count)])
      try decode(chunk, owned.state, resolveImports)
      let forgotten = owned.state.producers.forgottenCount
      taken += apply(chunk, &owned.state, requeues, batch, &batch.table, &batch.counters)
      batch.forgottenProducers += owned.state.producers.forgottenCount - forgotten
      if owned.state.halt != nil { return records.count }
    }
    return taken
  }

  /// Decodes ahead, and fetches the cache lines that `apply` will need.
  @inline(__always)
  private mutating func decode(
    _ chunk: UnsafeBufferPointer<LogRecordView>, _ state: borrowing PartitionState,
    _ resolveImports: ([Identifier]) throws -> [Identifier: Int64]
  ) rethrows {
    decoder.reset()
    var unknownImports: Set<Identifier> = []
    var touched: UInt64 = 0
    for i in 0..<chunk.count {
      decoder.decode(chunk[i].bytes, into: &events[i])
      guard events[i].isEvent else { continue }
      identities[i] = hash.identity(
        subject: events[i].subject, source: events[i].source, id: events[i].id)
      if !events[i].importBatch.isAbsent, judge(events[i], chunk[i]) == .tooOld {
        let name = Identifier(events[i].importBatch.string)
        if imports[name] == nil { unknownImports.insert(name) }
      }
      if settings.countsRates {
        events[i].domain = .absent
        events[i].feature = .absent
      }
    }
    // In a loop of their own, so that the misses overlap: between two decodings, each would wait
    // for its line alone.
    for i in 0..<chunk.count where events[i].isEvent {
      touched ^= state.window.touch(identities[i])
    }
    sink ^= touched
    if !unknownImports.isEmpty {
      for (name, oldest) in try resolveImports(unknownImports.sorted()) { imports[name] = oldest }
    }
  }

  @inline(__always)
  private func judge(
    _ event: DecodedEvent, _ record: LogRecordView
  ) -> EventTimeBounds.Verdict {
    EventTimeBounds.judge(
      time: event.time, record: record.timestamp, maxAge: settings.maxEventAgeMilliseconds)
  }

  /// - Returns: how many of the chunk were taken.
  private mutating func apply(
    _ chunk: UnsafeBufferPointer<LogRecordView>, _ state: inout PartitionState,
    _ requeues: [DeadLetterKey?], _ batch: LogBatch, _ table: inout UsageTable,
    _ counters: inout BatchCounters
  ) -> Int {
    let partition = state.partition
    for i in 0..<chunk.count where events[i].kind == .usage {
      groupHashes[i] = table.groupHash(
        events[i], hour: Self.hour(countedTime(i, chunk[i])), partition: partition)
    }
    for i in 0..<chunk.count where events[i].kind == .usage {
      sink ^= table.touch(groupHashes[i])
    }
    // The last record that counts is what the log is remembered by.
    var last = -1
    var newest: Int64 = -1
    defer {
      if last >= 0 { state.lastHash = KeyedHash.fingerprint(of: chunk[last]) }
      if newest >= 0 {
        batch.newestTimestamps[partition] = max(batch.newestTimestamps[partition] ?? 0, newest)
      }
    }
    for i in 0..<chunk.count {
      let record = chunk[i]
      // Records below the position are left-overs of an earlier fetch; they have been dealt with.
      guard record.offset >= state.position else { continue }
      if state.remembered != nil, !checkRemembered(record, &state) { return i }
      if table.isFull { return i }
      let counts = record.offset >= state.countFrom
      state.position = record.offset + 1
      if counts {
        state.last = record.offset
        last = i
        counters.records += 1
        counters.bytes += record.value?.count ?? 0
        if record.timestamp >= 0 {
          let oldest = counters.oldestTimestamp ?? record.timestamp
          counters.oldestTimestamp = min(oldest, record.timestamp)
          newest = max(newest, record.timestamp)
        }
      }
      switch events[i].kind {
      case .rejected:
        if counts { reject(record, i, events[i].reason, &state, batch) }
      case .report:
        if counts { report(record, i, state.partition, batch) }
      case .usage, .validation:
        if let reason = timeProblem(i, record) {
          if counts { reject(record, i, reason, &state, batch) }
        } else if !counts, state.deadLetters.contains(record.offset) {
          continue
        } else {
          count(i, record, counts, &state, requeues, batch, &table, &counters)
        }
      }
    }
    return chunk.count
  }

  /// One valid event.
  @inline(__always)
  private mutating func count(
    _ i: Int, _ record: LogRecordView, _ counts: Bool, _ state: inout PartitionState,
    _ requeues: [DeadLetterKey?], _ batch: LogBatch, _ table: inout UsageTable,
    _ counters: inout BatchCounters
  ) {
    let isRepeat = state.window.observe(identities[i], at: record.offset)
    // Before `countFrom` the sequences are already what the store says.
    guard counts else { return }
    // A sequence is only read together with its producer.
    let producer =
      events[i].sequence < 0
      ? -1 : state.producers.index(of: events[i].producer, at: record.offset)
    let isResend =
      producer >= 0 && state.producers.observe(producer, sequence: events[i].sequence)
    if record.requeueIndex >= 0 {
      guard let key = requeues[Int(record.requeueIndex)], requeuedHere.insert(key).inserted else {
        counters.duplicates += 1
        return
      }
      guard add(i, record, &state, batch, &table) else {
        requeuedHere.remove(key)
        return
      }
      batch.requeued.append((state.partition, key))
      counters.counted += 1
      return
    }
    if isRepeat || isResend {
      counters.duplicates += 1
      if producer >= 0 {
        state.producers.noteDuplicate(
          producer, isRepeated: !isResend)
      }
      return
    }
    guard add(i, record, &state, batch, &table) else {
      if producer >= 0 { state.producers.noteOverflow(producer, sequence: events[i].sequence) }
      return
    }
    counters.counted += 1
    if producer >= 0 { state.producers.noteCounted(producer) }
  }

  @inline(__always)
  private func add(
    _ i: Int, _ record: LogRecordView, _ state: inout PartitionState, _ batch: LogBatch,
    _ table: inout UsageTable
  ) -> Bool {
    if events[i].kind == .validation {
      if let suspicion = Suspicion(events[i].code) {
        batch.sightings.append(
          Sighting(events[i], suspicion, record, partition: state.partition))
      }
      return true
    }
    // What was imported happened long ago and says nothing of a rate.
    if settings.countsRates, !events[i].importBatch.isAbsent { return true }
    let time = countedTime(i, record)
    let fits = table.add(
      events[i], groupHash: groupHashes[i], hour: Self.hour(time), minute: Self.minute(time),
      partition: state.partition, offset: record.offset)
    if !fits { reject(record, i, .quantityOverflow, &state, batch) }
    return fits
  }

  @inline(__always)
  private func countedTime(_ i: Int, _ record: LogRecordView) -> Int64 {
    guard settings.countsRates, record.timestamp >= 0 else { return events[i].time }
    // A clock ahead of the others' would make the minutes in between look late.
    return min(events[i].time, record.timestamp)
  }

  private func timeProblem(_ i: Int, _ record: LogRecordView) -> RejectionReason? {
    switch judge(events[i], record) {
    case .fine: return nil
    case .tooFarAhead: return .tooFarAhead
    case .tooOld:
      guard !events[i].importBatch.isAbsent,
        let oldest = imports[Identifier(events[i].importBatch.string)], oldest <= events[i].time
      else { return .tooOld }
      return nil
    }
  }

  private func reject(
    _ record: LogRecordView, _ i: Int, _ reason: RejectionReason, _ state: inout PartitionState,
    _ batch: LogBatch
  ) {
    if settings.keepsDeadLetters {
      let payload = record.value.map { Array($0.prefix(Limits.valueBytes)) }
      let key = record.key.map { Array($0.prefix(Limits.valueBytes)) }
      batch.deadLetterBytes += (payload?.count ?? 0) + (key?.count ?? 0) + 128
      batch.deadLetters.append(
        DeadLetter(
          partition: state.partition, offset: record.offset, reason: reason, payload: payload,
          key: key, timestamp: record.timestamp))
    }
    // A record that did not decode carries its producer only with a sequence.
    guard !events[i].producer.isAbsent, events[i].sequence >= 0 else { return }
    let producer = state.producers.index(of: events[i].producer, at: record.offset)
    state.producers.noteDeadLetter(producer, sequence: events[i].sequence)
  }

  private func report(
    _ record: LogRecordView, _ i: Int, _ partition: Int32, _ batch: LogBatch
  ) {
    batch.reports.append(
      ProducerReport(
        partition: partition, producer: events[i].producer.string,
        accepted: events[i].accepted, pending: events[i].pending, dropped: events[i].dropped,
        isFinal: events[i].isFinal, timestamp: record.timestamp))
  }

  /// Compares the record that the store remembers with the one that stands in the log.
  private func checkRemembered(_ record: LogRecordView, _ state: inout PartitionState) -> Bool {
    guard let remembered = state.remembered, record.offset >= remembered.offset else { return true }
    if record.offset == remembered.offset,
      KeyedHash.fingerprint(of: record) == remembered.hash
    {
      state.remembered = nil
      return true
    }
    state.halt = .logDiffers(offset: remembered.offset)
    return false
  }

  @inline(__always)
  private static func hour(_ milliseconds: Int64) -> Int32 {
    Int32(truncatingIfNeeded: (milliseconds - floorModulo(milliseconds, 3_600_000)) / 3_600_000)
  }

  @inline(__always)
  private static func minute(_ milliseconds: Int64) -> UInt8 {
    UInt8(truncatingIfNeeded: floorModulo(milliseconds, 3_600_000) / 60_000)
  }

  @inline(__always)
  private static func floorModulo(_ value: Int64, _ divisor: Int64) -> Int64 {
    let r = value % divisor
    return r < 0 ? r + divisor : r
  }
}
