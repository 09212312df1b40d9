import EventCodec
package import Metering

/// Turns the records of the owned partitions into the next flush. It decodes and checks them, finds
/// duplicates, and counts usage or collects suspicious validations.
///
/// Each consumer thread has one. It decides from the log alone what is a duplicate, before anything
/// is stored. So a partition's state (window, sequences) belongs to the process only while it owns
/// the partition. The next owner reads it from the log again.
package struct LogAccumulator: ~Copyable {
  /// Why a partition cannot go on.
  package enum Halt: Equatable, Sendable {
    /// The record at that offset is not the remembered one, because the topic was truncated or
    /// created again.
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
  /// Dead letters that a batch has settled which may not be stored yet.
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

  /// Begins to own a partition. Records from `readFrom` on only fill the window. Records from
  /// `nextOffset` on count.
  ///
  /// - Parameter deadLetters: the offsets from `readFrom` on that were dead letters. They never
  ///   enter the window, even if imports or settings have changed since then.
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

  /// Forgets a partition. The flush drops its share of open batches.
  package mutating func disown(_ partition: Int32) { partitions[partition] = nil }

  package func owns(_ partition: Int32) -> Bool { partitions[partition] != nil }
  package var ownedPartitions: [Int32] { partitions.keys.sorted() }
  package func position(of partition: Int32) -> Int64? { partitions[partition]?.state.position }
  /// The newest record that counts, by which the log can be recognized. Nil if none was read yet.
  package func remembered(of partition: Int32) -> (offset: Int64, hash: Int64)? {
    guard let owned = partitions[partition] else { return nil }
    if let remembered = owned.state.remembered { return remembered }
    return owned.state.last >= 0 ? (owned.state.last, owned.state.lastHash) : nil
  }
  package func halt(of partition: Int32) -> Halt? { partitions[partition]?.state.halt }
  /// Whether the partition still reads records that were counted before.
  package func isRebuilding(_ partition: Int32) -> Bool {
    guard let owned = partitions[partition] else { return false }
    return owned.state.position < owned.state.countFrom
  }

  package mutating func allow(importBatch: Identifier, from oldestTime: Int64) {
    imports[importBatch] = oldestTime
  }

  /// Notes that the partition's end is reached. Everything below `offset` has been seen, including
  /// control records and gaps.
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
  ///   - requeues: the dead letters that the records' `requeueIndex` points to. Entries that are
  ///     `nil` were settled before.
  ///   - resolveImports: returns which of the named import batches are registered, with their
  ///     oldest time in milliseconds. It is called for names that no earlier run resolved, at most
  ///     once for each 256 records. If it throws, the records before those are taken, and the
  ///     caller goes on with the same run.
  /// - Returns: how many records were taken. They are fewer than given if the batch is full and
  ///   must be sealed first.
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
    // With a sanitizer, a member that is read while the decoder changes is an overlapping access.
    let events = events
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
    // This is a separate loop, so that the cache misses overlap. Between two decodings, each would
    // wait for its line alone.
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
    // The log is remembered by the last record that counts.
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
      // Records below the position come from an earlier fetch and were handled then.
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

  /// Applies one valid event.
  @inline(__always)
  private mutating func count(
    _ i: Int, _ record: LogRecordView, _ counts: Bool, _ state: inout PartitionState,
    _ requeues: [DeadLetterKey?], _ batch: LogBatch, _ table: inout UsageTable,
    _ counters: inout BatchCounters
  ) {
    let isRepeat = state.window.observe(identities[i], at: record.offset)
    // Before `countFrom`, the sequences already are as stored.
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
      // Its sequence is old by nature and says nothing. Its identity says whether it was counted.
      guard isRepeat || add(i, record, &state, batch, &table) else {
        requeuedHere.remove(key)
        return
      }
      batch.requeued.append(
        RequeuedLetter(partition: state.partition, key: key, isCounted: !isRepeat))
      if isRepeat { counters.duplicates += 1 } else { counters.counted += 1 }
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
    // Imported events happened long ago and say nothing about a rate.
    if settings.countsRates, !events[i].importBatch.isAbsent { return true }
    let time = countedTime(i, record)
    let fits = table.add(
      events[i], groupHash: groupHashes[i], hour: Self.hour(time), minute: Self.minute(time),
      partition: state.partition, offset: record.offset)
    if fits { return true }
    state.window.forget(record.offset)
    reject(record, i, .quantityOverflow, &state, batch)
    return false
  }

  @inline(__always)
  private func countedTime(_ i: Int, _ record: LogRecordView) -> Int64 {
    guard settings.countsRates, record.timestamp >= 0 else { return events[i].time }
    // If one clock were ahead of the others, the minutes in between would look late.
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
    // A record that could not be decoded has its producer only together with a sequence.
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

  /// Compares the record that the store remembers with the one in the log.
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
