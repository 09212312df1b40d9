import EventCodec
import Metering
import Testing
import UsageAggregation

@Suite("The accumulator")
struct LogAccumulatorTests {
  private let store = ByteStore()

  private func makeAccumulator(maxQuantity: Int64 = Limits.quantity) -> LogAccumulator {
    var settings = LogAccumulator.Settings()
    settings.maxQuantity = maxQuantity
    return LogAccumulator(settings: settings, hash: fixedHash)
  }

  private func event(
    _ offset: Int64, id: String? = nil, license: String = "l", quantity: Int64 = 1,
    sequence: Int64? = nil, importBatch: String? = nil, time: Int64 = sampleTime,
    timestamp: Int64 = sampleTime, requeueIndex: Int32 = -1
  ) -> LogRecordView {
    var text =
      """
      {"specversion":"1.0","type":"license.usage.recorded","source":"s",\
      "id":"\(id ?? "\(offset)")","subject":"\(license)",\
      "time":"\(PartitionLog.rfc3339(time))","data":{"quantity":\(quantity)}
      """
    if let sequence { text += #","producer":"p","sequence":\#(sequence)"# }
    if let importBatch { text += #","import":"\#(importBatch)""# }
    return LogRecordView(
      offset: offset, timestamp: timestamp, value: store.copy(bytes(text + "}")),
      key: store.copy(bytes(license)), requeueIndex: requeueIndex)
  }

  private func own(
    _ accumulator: inout LogAccumulator, _ partition: Int32 = 0, readFrom: Int64 = 0,
    nextOffset: Int64 = 0, remembered: (offset: Int64, hash: Int64)? = nil
  ) {
    accumulator.own(
      partition, readFrom: readFrom, nextOffset: nextOffset, windowOffsets: 10,
      remembered: remembered, producers: [])
  }

  @discardableResult
  private func take(
    _ accumulator: inout LogAccumulator, _ records: [LogRecordView], _ batch: LogBatch,
    of partition: Int32 = 0, requeues: [DeadLetterKey?] = []
  ) -> Int {
    records.withUnsafeBufferPointer {
      accumulator.take($0, of: partition, requeues: requeues, into: batch) { _ in [:] }
    }
  }

  private func quantity(_ batch: LogBatch) -> Int64 {
    batch.table.rows().filter { $0.key.kind == nil }.values.reduce(0) { $0 + $1.quantity }
  }

  // MARK: Where a partition goes on

  @Test func `A child knows the ids that its parent has seen, and counts none of them`() {
    var accumulator = makeAccumulator()
    let batch = accumulator.makeBatch()
    own(&accumulator, 4, readFrom: -10, nextOffset: 0)
    take(&accumulator, [event(-9, id: "too old"), event(-2, id: "a")], batch, of: 4)
    accumulator.reachedEnd(4, at: 0)
    #expect(accumulator.position(of: 4) == 0 && batch.counters.counted == 0)

    take(
      &accumulator,
      [event(0, id: "a"), event(1, id: "b"), event(2, id: "too old"), event(3, id: "too old")],
      batch, of: 4)
    #expect(batch.counters.counted == 2 && batch.counters.duplicates == 2)
  }

  @Test("Records below the stored offset fill the window and are not counted")
  func rebuilding() {
    var accumulator = makeAccumulator()
    let batch = accumulator.makeBatch()
    let records = (0..<6).map { event(Int64($0), id: "\($0 % 3)") }
    own(
      &accumulator, readFrom: 0, nextOffset: 3,
      remembered: (2, KeyedHash.fingerprint(of: records[2])))
    expect(accumulator.isRebuilding(0))
    expect(take(&accumulator, Array(records[..<2]), batch) == 2)
    expect(accumulator.isRebuilding(0))
    accumulator.seal(batch)
    expect(batch.isEmpty)
    expect(take(&accumulator, Array(records[2...]), batch) == 4)
    expect(!accumulator.isRebuilding(0))
    expect(batch.counters.records == 3)
    expect(batch.counters.duplicates == 3)
    expect(quantity(batch) == 0)
    accumulator.seal(batch)
    expect(batch.progress.count == 1)
    expect(batch.progress[0].expectedOffset == 3)
    expect(batch.progress[0].nextOffset == 6)
    expect(batch.progress[0].lastRecordOffset == 5)
    expect(batch.progress[0].lastRecordHash == KeyedHash.fingerprint(of: records[5]))
  }

  @Test("A record that is not the one remembered stops its partition, and no other")
  func changedRecord() {
    let original = event(2)
    let hash = KeyedHash.fingerprint(of: original)
    let changes: [(String, [LogRecordView])] = [
      ("another value", [event(1), event(2, id: "x"), event(3)]),
      ("another timestamp", [event(1), event(2, timestamp: sampleTime + 1), event(3)]),
      ("it is gone", [event(1), event(3)]),
      ("it is the first to come", [event(7)]),
    ]
    for (change, records) in changes {
      var accumulator = makeAccumulator()
      let batch = accumulator.makeBatch()
      own(&accumulator, 0, readFrom: 1, nextOffset: 3, remembered: (2, hash))
      own(&accumulator, 1)
      expect(take(&accumulator, records, batch) == records.count, "\(change)")
      expect(accumulator.halt(of: 0) == .logDiffers(offset: 2), "\(change)")
      // Nothing that comes later changes this, not even the record itself.
      expect(take(&accumulator, [original, event(9)], batch) == 2)
      accumulator.reachedEnd(0, at: 20)
      expect(accumulator.halt(of: 0) == .logDiffers(offset: 2))
      take(&accumulator, [event(0)], batch, of: 1)
      expect(accumulator.halt(of: 1) == nil)
      accumulator.seal(batch)
      expect(batch.progress.map(\.partition) == [1], "\(change)")
      expect(quantity(batch) == 1)
    }
  }

  @Test("The end of a partition moves it on, or stops it if the remembered record has not come")
  func ends() {
    var accumulator = makeAccumulator()
    let batch = accumulator.makeBatch()
    own(&accumulator)
    take(&accumulator, [event(0)], batch)
    accumulator.reachedEnd(0, at: 5)
    accumulator.reachedEnd(0, at: 4)
    expect(accumulator.position(of: 0) == 5)
    accumulator.seal(batch)
    expect(batch.progress[0].nextOffset == 5)
    expect(batch.progress[0].lastRecordOffset == 0)

    own(&accumulator, readFrom: 0, nextOffset: 5, remembered: (0, 1))
    accumulator.reachedEnd(0, at: 5)
    expect(accumulator.halt(of: 0) == .logDiffers(offset: 0))
    // If the record itself comes late, it does not set the partition going again.
    own(
      &accumulator, readFrom: 0, nextOffset: 5,
      remembered: (0, KeyedHash.fingerprint(of: event(0))))
    accumulator.reachedEnd(0, at: 5)
    let next = accumulator.makeBatch()
    take(&accumulator, [event(0), event(6)], next)
    expect(quantity(next) == 0)
  }

  @Test("A partition that is not owned takes records and counts none")
  func notOwned() {
    var accumulator = makeAccumulator()
    let batch = accumulator.makeBatch()
    expect(take(&accumulator, [event(0), event(1)], batch) == 2)
    own(&accumulator)
    expect(accumulator.owns(0) && accumulator.ownedPartitions == [0])
    accumulator.disown(0)
    expect(take(&accumulator, [event(0), event(1)], batch) == 2)
    accumulator.seal(batch)
    expect(batch.isEmpty && batch.table.isEmpty)
    expect(accumulator.position(of: 0) == nil)
  }

  @Test("Records that came before are skipped")
  func leftOvers() {
    var accumulator = makeAccumulator()
    let batch = accumulator.makeBatch()
    own(&accumulator)
    take(&accumulator, [event(0), event(1), event(2)], batch)
    take(&accumulator, [event(1), event(2), event(3)], batch)
    expect(batch.counters.records == 4)
    expect(batch.counters.duplicates == 0)
    expect(quantity(batch) == 4)
  }

  @Test("Progress lists the partitions that moved, in their order, and is chained by offsets")
  func progress() {
    var accumulator = makeAccumulator()
    for partition in [9, 2, 5, 0, 7] as [Int32] { own(&accumulator, partition) }
    var expected: [Int32: Int64] = [:]
    for round in 0..<3 {
      let batch = accumulator.makeBatch()
      for partition in [7, 0, 5] as [Int32] where partition != 5 || round == 1 {
        let offset = Int64(round) * 10
        take(&accumulator, [event(offset, sequence: Int64(round))], batch, of: partition)
      }
      accumulator.seal(batch)
      expect(batch.progress.map(\.partition) == (round == 1 ? [0, 5, 7] : [0, 7]))
      for progress in batch.progress {
        expect(progress.expectedOffset == expected[progress.partition] ?? 0)
        expect(progress.nextOffset == Int64(round) * 10 + 1)
        expect(progress.producers.map(\.sequence) == [Int64(round)])
        expected[progress.partition] = progress.nextOffset
      }
    }
    let nothing = accumulator.makeBatch()
    accumulator.seal(nothing)
    expect(nothing.isEmpty)
  }

  // MARK: Full batches

  @Test("A batch full of dead letters takes no more, and the rest goes into the next, each once")
  func fullOfDeadLetters() {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let garbage = store.copy([UInt8](repeating: 0x61, count: 65_536))
    let records = (0..<2_000).map {
      LogRecordView(offset: Int64($0), timestamp: 0, value: garbage, key: nil)
    }
    var offsets: [Int64] = []
    var taken = 0
    var batches = 0
    while taken < records.count {
      let batch = accumulator.makeBatch()
      let now = take(&accumulator, Array(records[taken...]), batch)
      expect(now > 0)
      expect(batch.deadLetterBytes < 64 << 20)
      taken += now
      batches += 1
      if taken < records.count { expect(take(&accumulator, [records[taken]], batch) == 0) }
      accumulator.seal(batch)
      expect(batch.progress[0].nextOffset == Int64(taken))
      offsets += batch.deadLetters.map(\.offset)
      batch.reset()
      expect(batch.isEmpty && batch.deadLetterBytes == 0)
    }
    expect(batches > 2)
    expect(offsets == Array(0..<2_000))
  }

  @Test(
    "A table that fills up in a run takes what fits, and the rest goes into the next, each once"
  )
  func fullTable() {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let batch = accumulator.makeBatch()
    let name = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 8)
    name.initializeMemory(as: UInt8.self, repeating: 0x6C)
    defer { name.deallocate() }
    var filler = DecodedEvent()
    filler.subject = Text(
      base: UnsafePointer(name.baseAddress!.assumingMemoryBound(to: UInt8.self)), count: 512)
    filler.domain = store.text(String(repeating: "d", count: 256))
    filler.feature = filler.domain
    // The fillers leave room for a few events but not for a run of them. They belong to a partition
    // that nobody owns.
    func inArena(_ bytes: Int) -> Int { (bytes + 7) / 8 * 8 }
    let cellBytes = MemoryLayout<UsageCell>.size
    let fillerBytes =
      inArena(MemoryLayout<UsageGroup>.size + 512 + "api_calls".utf8.count) + inArena(cellBytes)
      + 2 * inArena(cellBytes + 256)
    for n in 0..<UInt32(UsageTable.arenaBytes / fillerBytes - 100) {
      name.storeBytes(of: n, as: UInt32.self)
      let hash = batch.table.groupHash(filler, hour: 0, partition: 99)
      expect(
        batch.table.add(
          filler, groupHash: hash, hour: 0, minute: 0, partition: 99, offset: 0))
    }
    expect(!batch.table.isFull)
    let padding = String(repeating: "x", count: 500)
    let records = (0..<2_000).map { event(Int64($0), license: padding + "\($0)") }
    let taken = take(&accumulator, records, batch)
    expect((1..<records.count).contains(taken), "\(taken)")
    expect(batch.table.isFull)
    let mine = batch.table.rows().filter { $0.key.kind == nil && $0.key.partition == 0 }
    expect(mine.count == taken)
    expect(accumulator.position(of: 0) == Int64(taken))
    accumulator.seal(batch)
    let next = accumulator.makeBatch()
    expect(take(&accumulator, Array(records[taken...]), next) == records.count - taken)
    expect(quantity(next) == Int64(records.count - taken))
    expect(next.counters.duplicates == 0)
  }

  // MARK: Sums, requeues, imports

  @Test("An event whose license's sum would not fit is a dead letter, once in the ledger")
  func overflow() {
    var accumulator = makeAccumulator(maxQuantity: .max)
    own(&accumulator)
    let batch = accumulator.makeBatch()
    let records = [
      event(0, quantity: .max, sequence: 0), event(1, quantity: 1, sequence: 1),
      event(2, quantity: 0, sequence: 2), event(3, id: "1", quantity: 1, sequence: 1),
      event(4, license: "other", quantity: 5, sequence: 3),
    ]
    take(&accumulator, records, batch)
    expect(batch.deadLetters.map(\.reason) == [.quantityOverflow])
    expect(batch.deadLetters.map(\.offset) == [1])
    expect(batch.counters.counted == 3)
    expect(batch.counters.duplicates == 1)
    accumulator.seal(batch)
    let state = batch.progress[0].producers[0]
    expect(state.counted == 3)
    expect(state.deadLettered == 1)
    expect(state.duplicates == 1 && state.repeated == 0)
    expect(state.sequence == 3)
  }

  @Test("A dead letter counts once, and may be tried again if it did not fit")
  func requeues() {
    var accumulator = makeAccumulator(maxQuantity: .max)
    own(&accumulator)
    let key = DeadLetterKey(epoch: 1, topic: "t", partition: 0, offset: 7)
    let batch = accumulator.makeBatch()
    let first = [
      event(0, quantity: .max),
      event(1, quantity: 5, requeueIndex: 0),
      event(2, id: "2", quantity: 6, requeueIndex: 1),
    ]
    take(&accumulator, first, batch, requeues: [key, nil])
    expect(batch.requeued.isEmpty)
    expect(batch.deadLetters.map(\.offset) == [1])
    expect(batch.counters.duplicates == 1, "counted before, says the store")
    accumulator.seal(batch)

    let second = accumulator.makeBatch()
    // The record that did not fit is a dead letter, so its identity is not in the window.
    let again = [
      event(3, id: "1", quantity: 5, requeueIndex: 0),
      event(4, id: "1", quantity: 5, requeueIndex: 0),
    ]
    take(&accumulator, again, second, requeues: [key])
    expect(second.requeued.map(\.key) == [key])
    expect(quantity(second) == 5)
    expect(second.counters.duplicates == 1)
    accumulator.seal(second)
    // The batch is not stored yet, so the store would still call the dead letter uncounted.
    let third = accumulator.makeBatch()
    take(&accumulator, [event(5, id: "y", requeueIndex: 0)], third, requeues: [key])
    expect(third.requeued.isEmpty && quantity(third) == 0)
    // The batch was dropped, so the dead letter may be counted after all.
    accumulator.settled(second)
    take(&accumulator, [event(6, id: "z", requeueIndex: 0)], third, requeues: [key])
    expect(third.requeued.count == 1)
  }

  @Test func `A requeued event that the window knows is a duplicate, and settles its dead letter`()
  {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let key = DeadLetterKey(epoch: 1, topic: "t", partition: 0, offset: 7)
    let batch = accumulator.makeBatch()
    // The second record's sequence is below the first one's, which says nothing.
    let records = [
      event(0, id: "a", sequence: 9), event(1, id: "b", sequence: 2, requeueIndex: 0),
      event(2, id: "a", sequence: 3, requeueIndex: 1), event(3, id: "c", requeueIndex: 1),
    ]
    var others = [key, key]
    others[1].offset = 8
    take(&accumulator, records, batch, requeues: others)
    #expect(batch.requeued.map(\.key) == others)
    #expect(batch.requeued.map(\.isCounted) == [true, false])
    #expect(batch.counters.counted == 2 && batch.counters.duplicates == 2)
    accumulator.seal(batch)
    // The ledger has them as dead-lettered.
    let state = batch.progress[0].producers[0]
    #expect(state.counted == 1 && state.duplicates == 0 && state.repeated == 0)

    // After a log has lost its end, two dead letters can have one place.
    var sameplace = key
    sameplace.valueHash = "other"
    let next = accumulator.makeBatch()
    take(&accumulator, [event(4, id: "d", requeueIndex: 0)], next, requeues: [sameplace])
    #expect(next.requeued.map(\.isCounted) == [true])
  }

  @Test func `A requeued dead letter of a partition that was lost counts when it comes back`() {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let key = DeadLetterKey(epoch: 1, topic: "t", partition: 0, offset: 7)
    let record = event(0, quantity: 5, requeueIndex: 0)
    let lost = accumulator.makeBatch()
    take(&accumulator, [record], lost, requeues: [key])
    #expect(lost.requeued.count == 1)
    accumulator.disown(0)
    accumulator.seal(lost)
    #expect(lost.progress.isEmpty)
    lost.reset()

    own(&accumulator)
    let batch = accumulator.makeBatch()
    take(&accumulator, [record], batch, requeues: [key])
    #expect(batch.requeued.count == 1 && quantity(batch) == 5)
  }

  @Test("Old events count if their import is registered and reaches back to them")
  func imports() {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let batch = accumulator.makeBatch()
    let old = sampleTime - 100 * 86_400_000
    let records = [
      event(0, importBatch: "a", time: old), event(1, importBatch: "a", time: old - 1),
      event(2, importBatch: "b", time: old), event(3, time: old),
      event(4, importBatch: "unasked", time: sampleTime), event(5, importBatch: "c", time: old),
    ]
    accumulator.allow(importBatch: "c", from: old)
    var asked: [[Identifier]] = []
    for _ in 0..<2 {
      _ = records.withUnsafeBufferPointer {
        accumulator.take($0, of: 0, requeues: [], into: batch) { names in
          asked.append(names)
          return ["a": old]
        }
      }
    }
    expect(asked.first == ["a", "b"])
    expect(batch.deadLetters.map(\.offset) == [1, 2, 3])
    expect(batch.deadLetters.allSatisfy { $0.reason == .tooOld })
    expect(batch.counters.counted == 3)
  }

  @Test("If imports cannot be looked up, the same records can be taken again")
  func failedLookup() {
    struct Down: Error {}
    var accumulator = makeAccumulator()
    own(&accumulator)
    let batch = accumulator.makeBatch()
    let old = sampleTime - 100 * 86_400_000
    var records = (0..<300).map { event(Int64($0)) }
    records.append(event(300, importBatch: "a", time: old))
    var isRefused = false
    for isDown in [true, false] {
      do {
        _ = try records.withUnsafeBufferPointer {
          try accumulator.take($0, of: 0, requeues: [], into: batch) { _ in
            if isDown { throw Down() }
            return ["a": old]
          }
        }
      } catch {
        isRefused = true
      }
    }
    expect(isRefused)
    expect(batch.counters.counted == 301)
    expect(batch.counters.records == 301)
    expect(batch.counters.duplicates == 0)
  }

  @Test("The oldest arrival is that of the records that have a timestamp")
  func oldestTimestamp() {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let batch = accumulator.makeBatch()
    take(&accumulator, [event(0, timestamp: -1)], batch)
    expect(batch.counters.oldestTimestamp == nil)
    take(
      &accumulator, [event(1, timestamp: sampleTime + 5), event(2, timestamp: sampleTime)], batch)
    take(&accumulator, [event(3, timestamp: -1), event(4, timestamp: sampleTime + 1)], batch)
    expect(batch.counters.oldestTimestamp == sampleTime)
  }

  @Test("A dead letter keeps its payload, key and timestamp; one without a value has none")
  func deadLetters() {
    var accumulator = makeAccumulator()
    own(&accumulator)
    let batch = accumulator.makeBatch()
    let large = [UInt8](repeating: 0x20, count: 70_000)
    let records = [
      LogRecordView(offset: 0, timestamp: 5, value: nil, key: store.copy(bytes("k"))),
      LogRecordView(offset: 1, timestamp: .max, value: store.copy([]), key: nil),
      LogRecordView(offset: 2, timestamp: -1, value: store.copy(large), key: store.copy(large)),
    ]
    take(&accumulator, records, batch)
    expect(batch.deadLetters.map(\.reason) == [.tombstone, .notJSON, .overSize])
    expect(batch.deadLetters.map { $0.payload?.count } == [nil, 0, 65_536])
    expect(batch.deadLetters.map { $0.key?.count } == [1, nil, 65_536])
    expect(batch.deadLetters.map(\.timestamp) == [5, .max, -1])
  }

  @Test("The header of a requeued dead letter names epoch, topic, partition and offset")
  func headers() {
    let key = DeadLetterKey(epoch: 2, topic: "license.usage.v1", partition: 3, offset: 40)
    #expect(DeadLetterKey(header: bytes("2/license.usage.v1/3/40")) == key)
    for wrong in [
      "", "2/t/3", "2/t/3/4/5", "x/t/3/4", "2/t/x/4", "2/t/3/", "2/t/3/99999999999999999999",
    ] {
      #expect(DeadLetterKey(header: bytes(wrong)) == nil)
    }
    #expect(DeadLetterKey(header: [0xFF]) == nil)
  }
}
