import Foundation
import MeteringTestKit
import PostgresStore
import Testing

@Suite struct FlushStoreTests {
  private static let group = "g"
  private static let topic = "t"

  private func offsets(_ database: TestDatabase) throws -> OffsetStore {
    OffsetStore(try database.connection(), group: Self.group, topic: Self.topic)
  }

  private func flush(_ database: TestDatabase, owner: String) throws -> FlushStore {
    FlushStore(try database.connection(), group: Self.group, topic: Self.topic, owner: owner)
  }

  private func commit(
    _ partitions: [Int32], expected: [Int64], next: [Int64], epoch: Int32 = 1
  ) -> FlushStore.Commit {
    var c = FlushStore.Commit()
    for (i, partition) in partitions.enumerated() {
      c.offsets.append(
        FlushStore.Offset(
          epoch: epoch, partition: partition, expected: expected[i], next: next[i],
          lastRecord: next[i] - 1, lastRecordHash: next[i] * 7))
    }
    return c
  }

  /// What a flush says about a producer of partition 0.
  private func producer(
    _ name: String, at offset: Int64, sequence: Int64, dead: Int64 = -1, counted: Int64,
    duplicates: Int64 = 0, repeated: Int64 = 0, deadLettered: Int64 = 0, isForgotten: Bool = false
  ) -> OffsetStore.StoredProducer {
    OffsetStore.StoredProducer(
      partition: 0, producer: name, lastOffset: offset, isForgotten: isForgotten,
      sequence: sequence, deadSequence: dead, counted: counted, duplicates: duplicates,
      repeated: repeated, deadLettered: deadLettered)
  }

  private func report(
    _ producer: String, accepted: Int64, isFinal: Bool = false, at time: String
  ) -> FlushStore.Report {
    FlushStore.Report(
      producer: producer, accepted: accepted, pending: 0, dropped: 0, isFinal: isFinal,
      reportedAt: "2026-11-23T\(time)Z")
  }

  /// Runs a flush whose own work is one dead letter.
  ///
  /// - Returns: the partitions that were refused.
  private func store(
    _ database: TestDatabase, owner: String, _ c: FlushStore.Commit
  ) throws -> [Int32] {
    try database.execute(
      """
      begin; insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail)
      values ('t', 0, 1, 1, 'g', 'work', '')
      """)
    do {
      try flush(database, owner: owner).commit(c)
      return []
    } catch FlushStore.Refusal.takenOver(let partitions) {
      return partitions.sorted()
    }
  }

  @Test func `A commit moves offsets only from where they stand`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    let claimed = try offsets.claim([(0, 5), (1, 0), (2, 9)], owner: "a")
    #expect(claimed.map(\.nextOffset).sorted() == [0, 5, 9])
    #expect(
      claimed.allSatisfy { $0.logEpoch == 1 && $0.lastRecordOffset == nil && $0.claimedBy == "a" })

    #expect(
      try store(database, owner: "a", commit([0, 1, 2], expected: [5, 0, 9], next: [8, 4, 10]))
        == [])
    #expect(try offsets.stored().map(\.nextOffset) == [8, 4, 10])
    #expect(try offsets.stored().map(\.lastRecordHash) == [56, 28, 70])

    // A second try is refused, naming the partitions that do not fit. Nothing of it is stored.
    #expect(
      try store(database, owner: "a", commit([0, 1, 2], expected: [5, 4, 9], next: [8, 6, 10])) == [
        0, 2,
      ])
    #expect(try offsets.stored().map(\.nextOffset) == [8, 4, 10])
    #expect(try database.integer("select count(*) from dead_letter") == 1)
    // Nobody has claimed this partition.
    #expect(try store(database, owner: "a", commit([7], expected: [0], next: [1])) == [7])
    // The flush belongs to another epoch.
    #expect(try store(database, owner: "a", commit([0], expected: [8], next: [9], epoch: 2)) == [0])
  }

  @Test func `A claim fences the earlier owner`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0), (1, 0)], owner: "a")
    let second = try offsets.claim([(1, 0)], owner: "b")
    #expect(second.map(\.nextOffset) == [0])
    // The offset would still fit.
    #expect(
      try store(database, owner: "a", commit([0, 1], expected: [0, 0], next: [3, 3])) == [1])
    #expect(try store(database, owner: "a", commit([0], expected: [0], next: [3])) == [])
    #expect(try store(database, owner: "b", commit([1], expected: [0], next: [2])) == [])
    // A claim starts at the stored offset, wherever the log begins.
    #expect(try offsets.claim([(0, 100)], owner: "b").map(\.nextOffset) == [3])
  }

  @Test func `Many claims and commits in parallel never deadlock`() throws {
    let database = try TestDatabase()
    let url = database.url
    let lock = NSLock()
    nonisolated(unsafe) var failures: [String] = []  // Guarded by `lock`.
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      do {
        let own = TestDatabase(url: url)
        let offsets = try self.offsets(own)
        for round in 0..<15 {
          let partitions = (0..<8).map { (Int32(($0 + worker + round) % 8), Int64(0)) }
          let claimed = try offsets.claim(partitions, owner: "w\(worker)")
          let c = self.commit(
            claimed.map(\.partition), expected: claimed.map(\.nextOffset),
            next: claimed.map { $0.nextOffset + 1 })
          _ = try self.store(own, owner: "w\(worker)", c)
        }
      } catch {
        lock.lock()
        failures.append("\(error)")
        lock.unlock()
      }
    }
    #expect(failures == [])
    // Every accepted flush left its work, and every other flush left nothing.
    #expect(
      try database.integer(
        "select (select sum(next_offset) from consumer_offset)::bigint - 8 * (select count(*) from dead_letter)"
      ) == 0)
  }

  @Test func `An epoch begins for every partition`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0), (1, 0)], owner: "a")
    _ = try store(database, owner: "a", commit([0, 1], expected: [0, 0], next: [10, 10]))
    let epochs = EpochStore(try database.connection())
    let epoch = try epochs.beginEpoch(
      topic: Self.topic, groups: [Self.group], [(0, 0), (1, 3), (2, 0)])
    #expect(epoch == 2)
    let stored = try offsets.stored()
    #expect(stored.map(\.nextOffset) == [0, 3, 0])
    #expect(
      stored.allSatisfy { $0.logEpoch == 2 && $0.lastRecordHash == nil && $0.claimedBy == nil })
    // A flush of the old epoch is refused.
    #expect(
      try store(database, owner: "a", commit([0, 1], expected: [0, 3], next: [1, 4])) == [0, 1])
    // A partition that comes later begins in the newest epoch.
    #expect(try offsets.claim([(5, 0)], owner: "a").map(\.logEpoch) == [2])
  }

  @Test func `A gap is written down`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 4)], owner: "a")
    try offsets.acceptGap(partition: 0, to: 10, reason: "retention", by: "ops")
    #expect(try offsets.stored().map(\.nextOffset) == [10])
    #expect(
      try database.rows("select first_offset, last_offset, reason, accepted_by from log_gap")
        == [["4", "9", "retention", "ops"]])
  }

  @Test func `Producers and their reports move with the offsets`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    let name = "p \"1\""
    var c = commit([0], expected: [0], next: [10])
    c.producers = [
      producer(
        name, at: 9, sequence: 7, dead: 8, counted: 6, duplicates: 1, repeated: 1, deadLettered: 1)
    ]
    c.reports = [
      report(name, accepted: 8, isFinal: true, at: "18:40:00"),
      report(name, accepted: 5, at: "18:39:00"),
    ]
    #expect(try store(database, owner: "a", c) == [])
    let producer = try #require(try offsets.producers([0]).first)
    #expect(producer.producer == name && producer.sequence == 7 && producer.deadSequence == 8)
    #expect(
      try database.rows(
        "select accepted, counted, dead_lettered, in_flight, missing from producer_ledger")
        == [["8", "6", "1", "0", "0"]])
    // An older report that comes again changes nothing.
    var old = commit([0], expected: [10], next: [11])
    old.reports = [report(name, accepted: 5, at: "18:39:00")]
    #expect(try store(database, owner: "a", old) == [])
    #expect(try database.integer("select accepted from producer_report") == 8)
  }

  @Test("A forgotten producer keeps its counts if it has reported, and otherwise claims no loss")
  func forgottenProducers() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    var c = commit([0], expected: [0], next: [10])
    c.producers = [
      producer("reported", at: 1, sequence: 5, counted: 4, isForgotten: true),
      producer("stranger", at: 2, sequence: 6, counted: 1, isForgotten: true),
      // This one is forgotten and heard again within the flush.
      producer("again", at: 3, sequence: 7, counted: 2, isForgotten: true),
      producer("again", at: 9, sequence: 8, counted: 3),
    ]
    c.reports = [
      report("reported", accepted: 4, at: "18:40:00"), report("again", accepted: 5, at: "18:40:00"),
    ]
    #expect(try store(database, owner: "a", c) == [])
    #expect(
      try database.rows(
        "select producer, sequence, counted, forgotten from producer_sequence order by 1")
        == [["again", "8", "5", "f"], ["reported", "-1", "4", "t"]])
    #expect(try offsets.producers([0], latest: 10).map(\.producer) == ["again"])
    #expect(try offsets.forgetfulPartitions() == [0])
    // The next flush adds to what is stored. The stranger reports more than is known about it.
    var next = commit([0], expected: [10], next: [11])
    next.producers = [
      producer("reported", at: 10, sequence: 6, counted: 1),
      producer("stranger", at: 10, sequence: 7, counted: 1),
    ]
    next.reports = [report("stranger", accepted: 2, isFinal: true, at: "18:41:00")]
    #expect(try store(database, owner: "a", next) == [])
    try database.execute("update producer_report set judged_at = now()")
    #expect(
      try database.rows(
        "select producer, counted, in_flight, missing from producer_ledger order by 1")
        == [["again", "5", "0", "0"], ["reported", "5", "0", "0"], ["stranger", "1", "1", "0"]])
  }

  /// A dead letter whose value is `x`.
  private let letter = DeadLetterStore.Name(
    DeadLetterStore.Place(logEpoch: 1, topic: "t", partition: 3, offset: 33),
    valueHash: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")

  @Test func `A dead letter is counted once`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    try database.execute(
      """
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail, payload)
      values ('t', 3, 33, 1, 'g', 'bad_time', '', 'x')
      """)
    func requeued(_ c: FlushStore.Commit) -> FlushStore.Commit {
      var c = c
      c.requeued = [.init(letter, isCounted: true)]
      return c
    }
    #expect(try store(database, owner: "a", requeued(commit([0], expected: [0], next: [1]))) == [])
    do {
      _ = try store(database, owner: "a", requeued(commit([0], expected: [1], next: [2])))
      Issue.record("the second count was taken")
    } catch FlushStore.Refusal.database(let error) {
      #expect(error.sqlState == "MM002")
    }
    #expect(try offsets.stored().map(\.nextOffset) == [1])
  }

  @Test func `A refused flush stores no part of its message`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    try database.execute(
      """
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail)
      values ('t', 3, 33, 1, 'g', 'bad_time', '')
      """)
    var c = commit([0], expected: [5], next: [10])
    c.producers = [producer("p", at: 9, sequence: 1, counted: 1)]
    c.reports = [report("p", accepted: 1, at: "18:40:00")]
    c.requeued = [.init(letter, isCounted: true)]
    #expect(try store(database, owner: "a", c) == [0])
    #expect(
      try database.rows(
        """
        select (select count(*) from producer_sequence), (select count(*) from producer_report),
          (select count(*) from dead_letter), (select count(counted_at) from dead_letter)
        """) == [["0", "0", "1", "0"]])
  }

  @Test func `Processes of schema 28 still flush while newer ones do`() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "old")
    _ = try offsets.claim([(1, 0)], owner: "new")
    func olderFlush(expected: Int64, next: Int64) throws {
      try database.execute(
        """
        select flush_commit('g', 't', 'old', '{1}', '{0}', '{\(expected)}', '{\(next)}', '{-1}', '{0}',
          '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{p}', '{3}', '{0}', '{0}', '{f}',
          '{2026-11-23T18:40:00Z}', '{}', '{}', '{}', '{}')
        """)
    }
    try olderFlush(expected: 0, next: 4)
    var c = commit([1], expected: [0], next: [9])
    c.reports = [report("p", accepted: 5, at: "18:41:00")]
    #expect(try store(database, owner: "new", c) == [])
    #expect(throws: (any Error).self) { try olderFlush(expected: 0, next: 4) }
    #expect(try offsets.stored().map(\.nextOffset) == [4, 9])
    #expect(try database.integer("select accepted from producer_report") == 5)
  }

  @Test func `Only the first member of a group gives the topic's partitions their rows`() throws {
    let database = try TestDatabase()
    let store = OffsetStore(try database.connection(), group: "first", topic: "grown")
    try store.open([(0, 5), (1, nil), (2, 9)])
    try store.open([(0, 0), (1, 0), (2, 0), (3, 0)])
    #expect(try store.stored().map(\.partition) == [0, 1, 2])
    #expect(try store.stored().map(\.nextOffset) == [5, -1, 9])
    // Positions that were unknown then are known when the partition is claimed.
    let claimed = try store.claim([(1, 7), (2, 100)], owner: "a")
    #expect(claimed.sorted { $0.partition < $1.partition }.map(\.nextOffset) == [7, 9])
  }
}
