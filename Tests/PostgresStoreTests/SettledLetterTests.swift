import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// Dead letters that are settled because records that requeue them were judged.
@Suite struct SettledLetterTests {
  private static let group = "usage-aggregator"
  private static let topic = "license.usage.v1"
  private let database: TestDatabase
  private let offsets: OffsetStore
  private let letters: DeadLetterStore

  init() throws {
    database = try TestDatabase()
    offsets = OffsetStore(try database.connection(), group: Self.group, topic: Self.topic)
    letters = DeadLetterStore(try database.connection())
  }

  private func insert(
    _ value: String, at offset: Int64, partition: Int32 = 0, isCounted: Bool = false,
    group: String = group
  ) throws {
    try database.execute(
      """
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason,
        detail, payload, counted_at)
      values ('\(Self.topic)', \(partition), \(offset), 1, '\(group)', 'key_mismatch', '',
        '\(value)', \(isCounted ? "now()" : "null"))
      """)
  }

  private func place(_ offset: Int64, partition: Int32 = 0) -> DeadLetterStore.Place {
    DeadLetterStore.Place(
      logEpoch: 1, topic: Self.topic, partition: partition, offset: offset)
  }

  /// What the rows say about a record that names a dead letter of the same partition.
  private func standing(
    _ value: String, at offset: Int64, ofRecordAt own: Int64
  ) throws -> DeadLetterStore.Standing {
    try letters.standing(of: [
      .init(place(offset), value: Array(value.utf8), logEpoch: 1, partition: 0, offset: own)
    ])[0]
  }

  /// Flushes one record that requeues a letter, as a consumer does that found the letter open.
  private func settle(_ letter: DeadLetterStore.Name, isCounted: Bool = true) throws {
    _ = try offsets.claim([(9, 0)], owner: "a")
    let next = try offsets.stored([9])[0].nextOffset
    var commit = FlushStore.Commit()
    commit.offsets = [
      .init(
        epoch: 1, partition: 9, expected: next, next: next + 1, lastRecord: next,
        lastRecordHash: 1)
    ]
    commit.requeued = [.init(letter, isCounted: isCounted)]
    let connection = try database.connection()
    try connection.execute("begin")
    do {
      try FlushStore(connection, group: Self.group, topic: Self.topic, owner: "a").commit(commit)
    } catch {
      // The error of the flush is the one to report.
      try? connection.execute("rollback")
      throw error
    }
  }

  private func open(_ value: String, at offset: Int64) throws -> DeadLetterStore.Name {
    guard case .open(let name) = try standing(value, at: offset, ofRecordAt: 1_000) else {
      throw NeverHappened(description: "the letter \(value) at \(offset) is not open")
    }
    return name
  }

  @Test func `Two letters with one place are settled one by one`() throws {
    try insert("a", at: 5)
    try insert("b", at: 5)
    try settle(try open("a", at: 5))
    #expect(try standing("a", at: 5, ofRecordAt: 9) == .counted)
    try settle(try open("b", at: 5))
    #expect(try standing("b", at: 5, ofRecordAt: 9) == .counted)
  }

  @Test func `A value that came to its place twice is settled once`() throws {
    try insert("a", at: 5)
    try insert("a", at: 5)
    let letter = try open("a", at: 5)
    try settle(letter)
    #expect(try standing("a", at: 5, ofRecordAt: 9) == .counted)
    #expect(throws: FlushStore.Refusal.self) { try settle(letter) }
  }

  @Test func `A duplicate settles its letter, and a settled letter refuses only what counts`()
    throws
  {
    try insert("a", at: 5)
    let letter = try open("a", at: 5)
    try settle(letter, isCounted: false)
    try settle(letter, isCounted: false)
    #expect(try standing("a", at: 5, ofRecordAt: 9) == .counted)
    #expect(throws: FlushStore.Refusal.self) { try settle(letter) }
  }

  @Test func `Whatever the rows are, a flush accepts a letter exactly if it was found open`() throws
  {
    var random = SeededRandom(of: "whatever the rows are")
    for offset in Int64(0)..<40 {
      for _ in 0..<Int.random(in: 0...4, using: &random) {
        try insert(
          random.pick(["a", "b"]), at: offset, isCounted: random.chance(30),
          group: random.pick([Self.group, "other"]))
      }
      for value in ["a", "b"] {
        let found = try standing(value, at: offset, ofRecordAt: 1_000)
        let rows = try database.rows(
          """
          select count(*), count(counted_at) from dead_letter
          where log_offset = \(offset) and payload = '\(value)'
          """)[0]
        switch found {
        case .unknown: #expect(rows == ["0", "0"])
        case .counted: #expect(rows[1] != "0")
        case .open(let letter):
          #expect(rows[1] == "0")
          try settle(letter)
          #expect(try standing(value, at: offset, ofRecordAt: 1_000) == .counted)
        }
      }
    }
  }

  @Test func `A letter comes before a later record, and a lost one before all that is read since`()
    throws
  {
    _ = try offsets.claim([(0, 0), (1, 0)], owner: "a")
    try database.execute("update consumer_offset set next_offset = 100")
    for offset in [20, 60] as [Int64] { try insert("a", at: offset) }
    try insert("a", at: 60, partition: 1)
    #expect(try standing("a", at: 60, ofRecordAt: 60) == .unknown)
    #expect(try standing("a", at: 60, ofRecordAt: 61) != .unknown)

    try offsets.acceptGap(partition: 0, to: 50, reason: "test", by: "test")
    #expect(try standing("a", at: 60, ofRecordAt: 49) == .unknown)
    #expect(try standing("a", at: 60, ofRecordAt: 50) != .unknown)
    try offsets.acceptGap(partition: 0, to: 30, reason: "test", by: "test")
    #expect(try standing("a", at: 60, ofRecordAt: 30) != .unknown)
    try offsets.acceptGap(partition: 0, to: 40, reason: "test", by: "test")
    let reads = UsageReads(try database.connection())
    for record in [29, 30, 39, 60] as [Int64] {
      let isKnown = try standing("a", at: 60, ofRecordAt: record) != .unknown
      #expect(isKnown == (record >= 30))
      #expect(
        try reads.hasDeadLetter(
          topic: Self.topic, logEpoch: 1, partition: 0, offset: 60, value: Array("a".utf8),
          before: record) == isKnown)
    }
    // A lost letter says nothing about the record that has its offset now.
    #expect(try offsets.deadLetters(of: offsets.stored([0])[0], from: 0) == [20])
    #expect(try offsets.deadLetters(of: offsets.stored([1])[0], from: 0) == [60])
    #expect(
      try reads.atOneSnapshot {
        try reads.deadLetters(group: Self.group, topic: Self.topic).filter(\.isLost)
      }.map(\.offset) == [60])
  }

  @Test func `Letters with one place are chosen, read and marked one by one`() throws {
    try insert("a", at: 5, isCounted: true)
    try insert("b", at: 5)
    try insert("c", at: 5)
    let chosen = try letters.requeueable(.init(offset: 5), again: false)
    #expect(chosen.alreadyCounted == 1 && chosen.letters.count == 2)
    let read = try letters.uncounted(chosen.letters)
    #expect(Set(read.map { String(decoding: $0.payload ?? [], as: UTF8.self) }) == ["b", "c"])
    try letters.markRequeued([chosen.letters[0]])
    let rest = try letters.requeueable(.init(offset: 5), again: false)
    #expect(rest.alreadyRequeued == 1 && rest.letters == [chosen.letters[1]])
  }

  @Test func `What is known about lost records does not outlive them`() throws {
    _ = try offsets.claim([(0, 0)], owner: "a")
    try offsets.window(for: offsets.stored(), configured: 10)
    try database.execute("update consumer_offset set next_offset = 100")
    try offsets.window(for: offsets.stored(), configured: 20)
    try database.execute(
      """
      insert into producer_sequence (consumer_group, topic, partition, producer, sequence,
        dead_sequence, counted, duplicates, repeated, dead_lettered, last_offset)
      select '\(Self.group)', '\(Self.topic)', 0, n, 1, 1, 1, 0, 0, 0, o
      from (values ('early', 10), ('late', 90)) v(n, o);
      """)
    try offsets.acceptGap(partition: 0, to: 50, reason: "test", by: "test")
    #expect(
      try database.rows("select producer, last_offset, sequence from producer_sequence order by 1")
        == [["early", "10", "1"], ["late", "-1", "1"]])
    // From the new offset on, the new size applies.
    try offsets.window(for: offsets.stored(), configured: 20)
    #expect(try offsets.windows().map(\.fromOffset) == [0, 50])
    #expect(try offsets.windows().map(\.size) == [10, 20])
  }
}
