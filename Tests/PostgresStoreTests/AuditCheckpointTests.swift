import MeteringTestKit
import PostgresStore
import Testing

@Suite struct AuditCheckpointTests {
  private let database: TestDatabase
  private let store: AuditCheckpointStore

  init() throws {
    database = try TestDatabase()
    store = AuditCheckpointStore(try database.connection(), group: "g", topic: "t")
  }

  /// The places as `partition epoch:offset`, with `*` where an epoch begins.
  private func places() throws -> [String] {
    try store.places().map {
      "\($0.partition) \($0.logEpoch):\($0.nextOffset)\($0.beginsEpoch ? "*" : "")"
    }
  }

  private func producer(_ name: String, _ sequence: Int64, lastOffset: Int64) throws {
    try database.execute(
      """
      insert into producer_sequence (consumer_group, topic, partition, producer, sequence,
        dead_sequence, counted, duplicates, repeated, dead_lettered, last_offset)
      values ('g', 't', 0, '\(name)', \(sequence), 2, 10, 3, 1, 4, \(lastOffset))
      on conflict (consumer_group, topic, partition, producer) do update
        set sequence = excluded.sequence, last_offset = excluded.last_offset
      """)
  }

  private func move(to offset: Int64) throws {
    try database.execute("update consumer_offset set next_offset = \(offset) where partition = 0")
  }

  @Test func `The first claim and a new epoch leave a checkpoint of where the count begins`() throws
  {
    let offsets = OffsetStore(try database.connection(), group: "g", topic: "t")
    try offsets.open([(0, 7), (1, nil)])
    #expect(try places() == ["0 1:7*"])
    _ = try offsets.claim([(0, 7), (1, 3)], owner: "o")
    #expect(try places() == ["0 1:7*", "1 1:3*"])
    try producer("p", 30, lastOffset: 20)
    try move(to: 21)
    #expect(try places() == ["0 1:7*", "1 1:3*"])
    _ = try EpochStore(try database.connection()).beginEpoch(
      topic: "t", groups: ["g"], [(partition: 0, low: 0)])
    #expect(try places() == ["0 2:0*", "1 1:3*"])
    let known = try #require(try store.producers(at: store.places()[0]))
    #expect(known.map(\.producer) == ["p"] && known[0].sequence == 30 && known[0].counted == 10)
  }

  @Test func `A checkpoint holds the producers as of its offset, those heard least recently first`()
    throws
  {
    let offsets = OffsetStore(try database.connection(), group: "g", topic: "t")
    _ = try offsets.claim([(0, 0)], owner: "o")
    try producer("b", 5, lastOffset: 3)
    try producer("a", 6, lastOffset: 9)
    try move(to: 10)
    #expect(try store.take(leastAgeSeconds: 3_600) == 0)
    #expect(try store.take(leastAgeSeconds: 0) == 1)
    #expect(try store.take(leastAgeSeconds: 0) == 0)
    try producer("b", 50, lastOffset: 19)
    try move(to: 20)
    let place = try #require(try store.places().last)
    #expect(try places() == ["0 1:0*", "0 1:10"])
    let known = try #require(try store.producers(at: place))
    #expect(known.map { "\($0.producer) \($0.sequence)" } == ["b 5", "a 6"])
    #expect(try store.producers(at: store.places()[0])?.isEmpty == true)
    var gone = place
    gone.nextOffset = 11
    #expect(try store.producers(at: gone) == nil)
  }

  @Test func `An offset that is set back removes the checkpoints after it`() throws {
    let offsets = OffsetStore(try database.connection(), group: "g", topic: "t")
    _ = try offsets.claim([(0, 0)], owner: "o")
    try producer("a", 6, lastOffset: 9)
    try move(to: 10)
    try store.take(leastAgeSeconds: 0)
    try move(to: 20)
    try store.take(leastAgeSeconds: 0)
    try offsets.acceptGap(partition: 0, to: 15, reason: "cut", by: "test")
    #expect(try places() == ["0 1:0*", "0 1:10", "0 1:15"])
  }

  @Test
  func `Checkpoints that no recount can begin from leave, and those of past days are thinned`()
    throws
  {
    let offsets = OffsetStore(try database.connection(), group: "g", topic: "t")
    _ = try offsets.claim([(0, 0)], owner: "o")
    for n in 1...40 {
      try move(to: Int64(n * 10))
      try store.take(leastAgeSeconds: 0)
      // There are four a day for ten days, and the newest is some hours old.
      try database.execute(
        """
        update audit_checkpoint set taken_at = date_trunc('day', now(), 'UTC') - interval '10 days'
          + make_interval(hours => \(n - 1) * 6)
        where next_offset = \(n * 10)
        """)
    }
    try store.retain([(partition: 0, low: 25)])
    let kept = try store.places().map(\.nextOffset)
    #expect(kept.first == 30)
    #expect(kept.prefix(3) == [30, 50, 90])
    #expect(kept.last == 400)
    #expect(kept.count <= 14)
    try store.retain([(partition: 0, low: 1_000)])
    #expect(try places() == ["0 1:400"])
    try database.execute("update consumer_offset set log_epoch = 2, next_offset = 0")
    try store.retain([])
    #expect(try places() == ["0 2:0*"])
    #expect(try database.integer("select count(*) from audit_checkpoint") == 1)
  }
}
