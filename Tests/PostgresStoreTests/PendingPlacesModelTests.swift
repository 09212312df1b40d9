import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// Random flushes, merges, offsets that are set back, new epochs and readers that stay open. In
/// every snapshot, the rows after the marks are all pending rows, and every reader counts each
/// event once.
@Suite struct PendingPlacesModelTests {
  private struct Reader {
    let database: TestDatabase
    let expected: Int64
  }

  /// An open transaction on its own connection.
  private struct Open {
    let database: TestDatabase
    var partitions: [Int] = []
    /// The events that count once it commits.
    var events: Int64 = 0
    var place: (partition: Int, next: Int64)?
  }

  private struct Run {
    let database: TestDatabase
    var random: SeededRandom
    /// The next offset of each partition. No group knows the last partition, and rows of it are
    /// written nevertheless.
    var next: [Int64] = [0, 0, 0, 0]
    var events: Int64 = 0
    var readers: [Reader] = []
    var flush: Open?
    var merge: Open?

    init(seed: UInt64, _ kind: MergeKind) throws {
      database = try TestDatabase()
      random = SeededRandom(seed: seed)
      try kind.set(database)
      // Until the totals are complete, folds make them.
      while try database.integer("select usage_fold(1000)") ?? 0 > 0 {}
      _ = try OffsetStore(
        database.connection(), group: ConsumerGroup.aggregator, topic: TopicName.usage
      ).claim((0..<4).map { (Int32($0), 0) }, owner: "test")
    }

    /// Compares what every reader adds up, and the ways to read waiting rows, in one snapshot.
    func check(_ database: TestDatabase, _ expected: Int64, _ what: Comment) throws {
      let row = try database.rows(
        """
        select (select coalesce(sum(event_count), 0)::bigint from usage_by_hour),
          (select coalesce(sum(event_count), 0)::bigint from usage_by_minute),
          (select coalesce(sum(event_count), 0)::bigint from usage_by_day),
          (select coalesce(sum(event_count), 0)::bigint from usage_by_period),
          (select coalesce(sum(event_count), 0)::bigint from usage_total_by_period),
          (select coalesce(sum(event_count), 0)::bigint from usage_total_by_customer_day),
          (select coalesce(sum(event_count), 0)::bigint from usage_by_dimension_day
            where dimension = 'domain'),
          (select count(*) from only usage_pending) + (select count(*) from usage_pending_recent)
            - (select count(*) from usage_unmerged) + \(expected),
          (select count(*) from usage_waiting where license_id <> 'lic_2')
            - (select count(*) from usage_waiting_of('{lic_0,lic_1}')) + \(expected)
        """)[0]
      #expect(row == Array(repeating: String(expected), count: row.count), what)
    }

    // MARK: Steps

    /// Flushes some rows, one of which may be of a requeued dead letter. Such an event is a record
    /// like any other, at the end of the log. The flush stays open or ends.
    mutating func beginFlush() throws {
      guard flush == nil else { return try endFlush() }
      let open = Open(database: TestDatabase(url: database.url))
      flush = open
      let partition = Int.random(in: 0..<5, using: &random)
      try open.database.execute("begin")
      let rows = Int64.random(in: 1...4, using: &random)
      let table = PendingTable.allCases.randomElement(using: &random)!.rawValue
      let start = partition < 4 ? next[partition] : 0
      _ = try open.database.rows(
        """
        insert into \(table)
        select coalesce((select max(log_epoch) from consumer_offset), 1), $1::int, 'lic_' || n % 3, 'a',
          '2027-02-01 10:00Z', $2::bigint + n * 2, $2::bigint + n * 2 + 1, 1, 1, '[5,1,1]',
          '["domain","a.example",1,1]'
        from generate_series(0, $3::bigint - 1) n
        """, [.int(partition), .integer(start), .integer(rows)])
      flush?.events = rows
      guard partition < 4 else { return }
      let end = start + rows * 2 + Int64.random(in: 0...1, using: &random)
      flush?.place = (partition, end)
      _ = try open.database.rows(
        "update consumer_offset set next_offset = $2::bigint where partition = $1::int",
        [.int(partition), .integer(end)])
    }

    mutating func endFlush() throws {
      guard let open = flush else { return }
      flush = nil
      guard random.chance(70) else { return try open.database.execute("rollback") }
      try open.database.execute("commit")
      events += open.events
      if let place = open.place { next[place.partition] = place.next }
    }

    mutating func beginMerge() throws {
      guard merge == nil else { return try endMerge() }
      var open = Open(database: TestDatabase(url: database.url))
      open.partitions = (0..<5).filter { _ in random.chance(60) }
      let list = open.partitions.map(String.init).joined(separator: ",")
      try open.database.execute("begin")
      _ = try open.database.rows("select usage_merge('{\(list)}')")
      merge = open
    }

    mutating func endMerge() throws {
      guard let open = merge else { return }
      merge = nil
      try open.database.execute(random.chance(75) ? "commit" : "rollback")
    }

    /// The log of a partition lost its end, or its row, and is counted again from an earlier
    /// offset.
    mutating func setBack() throws {
      let partition = Int.random(in: 0..<4, using: &random)
      guard flush?.place?.partition != partition, merge?.partitions.contains(partition) != true
      else { return }
      next[partition] = Int64.random(in: 0...next[partition], using: &random)
      let offsets = OffsetStore(
        try database.connection(), group: ConsumerGroup.aggregator, topic: TopicName.usage)
      if random.chance(50) {
        try offsets.acceptGap(
          partition: Int32(partition), to: next[partition], reason: "test", by: "test")
      } else {
        try database.execute("delete from consumer_offset where partition = \(partition)")
        _ = try offsets.claim([(Int32(partition), next[partition])], owner: "test")
      }
    }

    mutating func beginEpoch() throws {
      guard flush == nil else { return }
      next = next.map { _ in Int64.random(in: 0...2, using: &random) }
      _ = try EpochStore(database.connection()).beginEpoch(
        topic: TopicName.usage, groups: [ConsumerGroup.aggregator],
        next.enumerated().map { (Int32($0.offset), $0.element) })
    }

    mutating func openReader() throws {
      let reader = TestDatabase(url: database.url)
      try reader.execute("begin isolation level repeatable read")
      try check(reader, events, "a new reader")
      readers.append(Reader(database: reader, expected: events))
      if readers.count > 3 {
        let leaving = readers.remove(at: Int.random(in: 0..<4, using: &random))
        try leaving.database.execute("commit")
      }
    }

    mutating func step() throws {
      switch Int.random(in: 0..<100, using: &random) {
      case ..<40: try beginFlush()
      case ..<68: try beginMerge()
      case ..<78: try openReader()
      case ..<85: try setBack()
      case ..<88: try beginEpoch()
      case ..<94: _ = try database.rows("select usage_fold(1000)")
      default: try database.execute("vacuum (truncate false) usage_pending, usage_merged")
      }
    }
  }

  @Test(arguments: MergeKind.allCases, [1, 2] as [UInt64])
  func `In every snapshot the rows after the marks are all pending rows`(
    _ kind: MergeKind, _ seed: UInt64
  ) throws {
    var run = try Run(seed: seed, kind)
    for step in 1...70 {
      try run.step()
      try run.check(run.database, run.events, "step \(step)")
      for reader in run.readers {
        try run.check(reader.database, reader.expected, "a reader at step \(step)")
      }
    }
    try run.endFlush()
    try run.endMerge()
    _ = try run.database.rows("select usage_merge('{0,1,2,3,4}')")
    try run.check(run.database, run.events, "at the end")
    #expect(try run.database.integer("select count(*) from only usage_pending") == 0)
    // No mark is ahead of what is counted, and the marks do move.
    #expect(
      try run.database.integer(
        """
        select count(*) from usage_merged m join consumer_offset o using (partition)
        where (m.log_epoch, m.next_offset) > (o.log_epoch, o.next_offset)
        """) == 0)
    #expect(try run.database.integer("select sum(log_epoch) from usage_merged") ?? 0 > 0)
    #expect(run.events > 10)
  }
}
