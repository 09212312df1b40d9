import MeteringTestKit
import PostgresStore
import Testing

/// A producer sent 10 records and then, in a transaction that is still open, 30 more. The log's
/// readable records end at 10, and all of them end at 40.
@Suite struct ProducerReportStoreTests {
  private static let group = "usage-aggregator"
  private static let topic = "license.usage.v1"

  private func ledger(counted: Int64) throws -> (TestDatabase, ProducerReportStore) {
    let database = try TestDatabase()
    try database.execute(
      """
      insert into consumer_offset (consumer_group, topic, partition, next_offset)
      values ('\(Self.group)', '\(Self.topic)', 0, \(counted));
      insert into producer_sequence (consumer_group, topic, partition, producer, sequence,
        dead_sequence, counted, duplicates, repeated, dead_lettered)
      values ('\(Self.group)', '\(Self.topic)', 0, 'p', \(counted), 0, \(counted), 0, 0, 0);
      insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped,
        final, reported_at, log_epoch)
      values ('\(Self.group)', '\(Self.topic)', 'p', 40, 0, 0, false, now(), 1);
      """)
    return (
      database, ProducerReportStore(try database.connection(), group: Self.group, topic: Self.topic)
    )
  }

  private func setEnds(_ ends: [Int64], _ store: ProducerReportStore) throws {
    for report in try store.newReports(limit: 10) { try store.setLogEnds(ends, of: report) }
    try store.judge()
  }

  private func told(_ database: TestDatabase) throws -> [[String?]] {
    try database.rows("select in_flight, missing from producer_ledger")
  }

  @Test func `What an open transaction holds is in flight, and never claimed as missing`() throws {
    let (database, store) = try ledger(counted: 10)
    #expect(try store.newReports(limit: 10).map(\.accepted) == [40])
    try setEnds([40], store)
    #expect(try told(database) == [["30", "0"]])
    #expect(try store.newReports(limit: 10).isEmpty)

    // The transaction commits, and its records are counted.
    try database.execute(
      "update consumer_offset set next_offset = 41; update producer_sequence set counted = 40")
    try store.judge()
    #expect(try told(database) == [["0", "0"]])
  }

  @Test func `What the log does not hold is missing as soon as its end is counted`() throws {
    let (database, store) = try ledger(counted: 10)
    try setEnds([10, 0], store)
    #expect(try told(database) == [["0", "30"]])
  }

  @Test func `No numbers of a producer's report stop the readers of the ledger`() throws {
    let (database, store) = try ledger(counted: 10)
    let connection = try database.connection()
    let large = Int64.max
    for (accepted, pending, dropped) in [(0, large, large), (large, 0, 0)] {
      try database.execute(
        """
        delete from producer_report;
        insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped,
          final, reported_at, log_epoch)
        select '\(Self.group)', '\(Self.topic)', p, \(accepted), \(pending), \(dropped), true, now(), 1
        from unnest(array['p', 'q', 'r']) p
        """)
      for isJudged in [false, true] {
        if isJudged { try setEnds([10], store) }
        let rows = try database.rows("select producer, in_flight, missing from producer_ledger")
        #expect(rows.count == 3)
        _ = try LedgerStore(connection).totals(of: Self.group)
        let standing = try UsageStore(connection).standing()
        let sums = try UsageReads(connection).ledgerRows(limit: 10)
        #expect(sums.missing == standing.missing)
        // All of it is in flight at first. Afterwards it is missing, or was never accepted.
        #expect(standing.missing == (isJudged ? (accepted > 0 ? large : -large) : 0))
        #expect(sums.inFlight == (isJudged || accepted == 0 ? 0 : large))
      }
    }
  }

  @Test func `A partition whose beginning is not known yet keeps a report in flight`() throws {
    let (database, store) = try ledger(counted: 10)
    try database.execute(
      """
      insert into consumer_offset (consumer_group, topic, partition, next_offset)
      values ('\(Self.group)', '\(Self.topic)', 1, -1)
      """)
    try setEnds([10, 3], store)
    #expect(try told(database) == [["30", "0"]])
  }

  @Test(arguments: [[40], nil] as [[Int64]?])
  func `What was only in the log of an earlier epoch is missing`(ends: [Int64]?) throws {
    let (database, store) = try ledger(counted: 10)
    if let ends { try setEnds(ends, store) }
    #expect(try told(database) == [["30", "0"]])
    _ = try EpochStore(try database.connection()).beginEpoch(
      topic: Self.topic, groups: [Self.group], [(0, 0)])
    try store.judge()
    #expect(try told(database) == [["0", "30"]])
  }

  @Test func `What a log has lost with its end is missing`() throws {
    let (database, store) = try ledger(counted: 10)
    try database.execute(
      "insert into usage_watch (next_slot, log_ends) values (now(), '{40}')")
    try setEnds([40], store)
    #expect(try told(database) == [["30", "0"]])
    try OffsetStore(try database.connection(), group: Self.group, topic: Self.topic)
      .acceptGap(partition: 0, to: 4, reason: "test", by: "test")
    try store.judge()
    #expect(try told(database) == [["0", "30"]])
    #expect(try database.rows("select log_ends from usage_watch") == [["{4}"]])
  }

  @Test func `Totals are judged on when an epoch begins`() throws {
    let (database, _) = try ledger(counted: 10)
    try database.execute(
      "insert into usage_watch (next_slot, log_ends) values (now(), '{40}')")
    _ = try EpochStore(try database.connection()).beginEpoch(
      topic: Self.topic, groups: [Self.group], [(0, 3)])
    #expect(try database.rows("select log_ends from usage_watch") == [["{3}"]])
  }

  @Test func `A report that was replaced while the log was asked is asked about again`() throws {
    let (database, store) = try ledger(counted: 10)
    let old = try #require(try store.newReports(limit: 1).first)
    try database.execute("update producer_report set accepted = 41")
    try store.setLogEnds([40], of: old)
    #expect(try store.newReports(limit: 10).map(\.accepted) == [41])
  }
}

@Suite struct ProgressStoreTests {
  @Test func `A partition with an unknown beginning has no offset, and its halt is reported`()
    throws
  {
    let database = try TestDatabase()
    try database.execute(
      """
      insert into consumer_offset (consumer_group, topic, partition, next_offset) values
        ('g', 't', 0, 7), ('g', 't', 1, -1), ('g', 't', 2, 0);
      insert into partition_halt (consumer_group, topic, partition, reason)
      values ('g', 't', 1, 'no leader');
      """)
    let offsets = try ProgressStore(try database.connection()).offsets(group: "g", topic: "t")
    #expect(offsets.rows.map(\.partition).sorted() == [0, 2])
    #expect(offsets.halted == [1])
  }
}
