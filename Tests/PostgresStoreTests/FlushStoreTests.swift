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
    _ partitions: [Int64], expected: [Int64], next: [Int64], epoch: Int64 = 1
  ) -> FlushStore.Commit {
    var c = FlushStore.Commit()
    c.partitions = partitions
    c.epochs = partitions.map { _ in epoch }
    c.expected = expected
    c.next = next
    c.lastOffsets = next.map { $0 - 1 }
    c.lastHashes = next.map { $0 * 7 }
    return c
  }

  /// Begins, appends one dead letter as the flush's own work, commits; answers the partitions that were refused.
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

  @Test func aCommitMovesOffsetsOnlyFromWhereTheyStand() throws {
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

    // Twice is a refusal, of those that do not fit; nothing of it is stored.
    #expect(
      try store(database, owner: "a", commit([0, 1, 2], expected: [5, 4, 9], next: [8, 6, 10])) == [
        0, 2,
      ])
    #expect(try offsets.stored().map(\.nextOffset) == [8, 4, 10])
    #expect(try database.integer("select count(*) from dead_letter") == 1)
    // A partition that nobody has claimed.
    #expect(try store(database, owner: "a", commit([7], expected: [0], next: [1])) == [7])
    // Another epoch.
    #expect(try store(database, owner: "a", commit([0], expected: [8], next: [9], epoch: 2)) == [0])
  }

  @Test func aClaimFencesTheOwnerBefore() throws {
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
    // A claim starts where the store stands, whatever the log's beginning.
    #expect(try offsets.claim([(0, 100)], owner: "b").map(\.nextOffset) == [3])
  }

  @Test func manyClaimsAndCommitsAtOnceNeverDeadlock() throws {
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
            claimed.map { Int64($0.partition) }, expected: claimed.map(\.nextOffset),
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
    // Every flush that was taken left its work, every other one nothing.
    #expect(
      try database.integer(
        "select (select sum(next_offset) from consumer_offset)::bigint - 8 * (select count(*) from dead_letter)"
      ) == 0)
  }

  @Test func anEpochBeginsForEveryPartition() throws {
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
    // Whoever still writes in the old one is refused.
    #expect(
      try store(database, owner: "a", commit([0, 1], expected: [0, 3], next: [1, 4])) == [0, 1])
    // A partition that comes later begins in the newest epoch.
    #expect(try offsets.claim([(5, 0)], owner: "a").map(\.logEpoch) == [2])
  }

  @Test func aGapIsWrittenDown() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 4)], owner: "a")
    try offsets.acceptGap(partition: 0, to: 10, reason: "retention", by: "ops")
    #expect(try offsets.stored().map(\.nextOffset) == [10])
    #expect(
      try database.rows("select first_offset, last_offset, reason, accepted_by from log_gap")
        == [["4", "9", "retention", "ops"]])
  }

  @Test func producersAndReportsMoveWithTheOffsets() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    var c = commit([0], expected: [0], next: [10])
    c.producerPartitions = [0]
    c.producers = ["p \"1\""]
    c.producerOffsets = [9]
    c.forgotten = [false]
    c.sequences = [7]
    c.deadSequences = [8]
    c.counted = [6]
    c.duplicates = [1]
    c.repeated = [1]
    c.deadLettered = [1]
    c.reportProducers = ["p \"1\"", "p \"1\""]
    c.accepted = [8, 5]
    c.pending = [0, 0]
    c.dropped = [0, 0]
    c.finals = [true, false]
    c.reportedAt = ["2026-11-23T18:40:00Z", "2026-11-23T18:39:00Z"]
    #expect(try store(database, owner: "a", c) == [])
    let producer = try #require(try offsets.producers([0]).first)
    #expect(producer.producer == "p \"1\"" && producer.sequence == 7 && producer.deadSequence == 8)
    #expect(
      try database.rows(
        "select accepted, counted, dead_lettered, in_flight, missing from producer_ledger")
        == [["8", "6", "1", "0", "0"]])
    // An older report that comes again changes nothing.
    var old = commit([0], expected: [10], next: [11])
    old.reportProducers = ["p \"1\""]
    old.accepted = [5]
    old.pending = [0]
    old.dropped = [0]
    old.finals = [false]
    old.reportedAt = ["2026-11-23T18:39:00Z"]
    #expect(try store(database, owner: "a", old) == [])
    #expect(try database.integer("select accepted from producer_report") == 8)
  }

  @Test("A producer that made room keeps its counts if it has reported, and else claims no loss")
  func forgottenProducers() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    var c = commit([0], expected: [0], next: [10])
    c.producerPartitions = [0, 0, 0, 0]
    // One is forgotten and heard again within the flush.
    c.producers = ["reported", "stranger", "again", "again"]
    c.producerOffsets = [1, 2, 3, 9]
    c.forgotten = [true, true, true, false]
    c.sequences = [5, 6, 7, 8]
    c.deadSequences = [-1, -1, -1, -1]
    c.counted = [4, 1, 2, 3]
    c.duplicates = [0, 0, 0, 0]
    c.repeated = [0, 0, 0, 0]
    c.deadLettered = [0, 0, 0, 0]
    c.reportProducers = ["reported", "again"]
    c.accepted = [4, 5]
    c.pending = [0, 0]
    c.dropped = [0, 0]
    c.finals = [false, false]
    c.reportedAt = ["2026-11-23T18:40:00Z", "2026-11-23T18:40:00Z"]
    #expect(try store(database, owner: "a", c) == [])
    #expect(
      try database.rows(
        "select producer, sequence, counted, forgotten from producer_sequence order by 1")
        == [["again", "8", "5", "f"], ["reported", "-1", "4", "t"]])
    #expect(try offsets.producers([0], latest: 10).map(\.producer) == ["again"])
    #expect(try offsets.forgetfulPartitions() == [0])
    // The next flush adds to what is stored; the stranger reports more than what is known of it.
    var next = commit([0], expected: [10], next: [11])
    next.producerPartitions = [0, 0]
    next.producers = ["reported", "stranger"]
    next.producerOffsets = [10, 10]
    next.forgotten = [false, false]
    next.sequences = [6, 7]
    next.deadSequences = [-1, -1]
    next.counted = [1, 1]
    next.duplicates = [0, 0]
    next.repeated = [0, 0]
    next.deadLettered = [0, 0]
    next.reportProducers = ["stranger"]
    next.accepted = [2]
    next.pending = [0]
    next.dropped = [0]
    next.finals = [true]
    next.reportedAt = ["2026-11-23T18:41:00Z"]
    #expect(try store(database, owner: "a", next) == [])
    try database.execute("update producer_report set judged_at = now()")
    #expect(
      try database.rows(
        "select producer, counted, in_flight, missing from producer_ledger order by 1")
        == [["again", "5", "0", "0"], ["reported", "5", "0", "0"], ["stranger", "1", "1", "0"]])
  }

  @Test func aDeadLetterIsCountedOnce() throws {
    let database = try TestDatabase()
    let offsets = try offsets(database)
    _ = try offsets.claim([(0, 0)], owner: "a")
    try database.execute(
      """
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail)
      values ('t', 3, 33, 1, 'g', 'bad_time', '')
      """)
    func requeued(_ c: FlushStore.Commit) -> FlushStore.Commit {
      var c = c
      c.requeuedEpochs = [1]
      c.requeuedTopics = ["t"]
      c.requeuedPartitions = [3]
      c.requeuedOffsets = [33]
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

  @Test func `Only the first member of a group gives the topic's partitions their rows`() throws {
    let database = try TestDatabase()
    let store = OffsetStore(try database.connection(), group: "first", topic: "grown")
    try store.open([(0, 5), (1, nil), (2, 9)])
    try store.open([(0, 0), (1, 0), (2, 0), (3, 0)])
    #expect(try store.stored().map(\.partition) == [0, 1, 2])
    #expect(try store.stored().map(\.nextOffset) == [5, -1, 9])
    // What could not be asked for then is known when it is claimed.
    let claimed = try store.claim([(1, 7), (2, 100)], owner: "a")
    #expect(claimed.sorted { $0.partition < $1.partition }.map(\.nextOffset) == [7, 9])
  }
}
