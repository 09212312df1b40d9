import AnomalyDetection
import Foundation
import MeteringTestKit
import PostgresStore
import Testing

@testable import AnomalyDetector

extension IntegrationTests {
  /// From totals in database rows to alerts, without a process or a broker.
  @Suite struct UsageWatcherTests {
    /// A Monday, 00:00 UTC, long ago.
    private static let start: Int64 = 29_700_000 / 10_080 * 10_080 + 4 * 1_440
    private static let day: Int64 = 1_440

    /// A database in which one customer's usage is watched and ten days of it are learnt.
    private static func watched() throws -> (TestDatabase, UsageWatchStore, next: Int64) {
      let database = try TestDatabase()
      try database.addLicense("lic_1")
      try database.execute(
        """
        insert into webhook_endpoint (endpoint_id, customer_id, url) values
          ('ep_customer', 'cus_test', 'https://example.com/'),
          ('ep_vendor', null, 'https://example.org/')
        """)
      let next = start + 10 * day
      return (database, try teach(database, until: next), next)
    }

    /// Teaches the series of all customers and of one customer ten days of about 100 calls a
    /// minute.
    @discardableResult
    private static func teach(
      _ database: TestDatabase, until next: Int64
    ) throws -> UsageWatchStore {
      var random = SeededRandom(seed: 1)
      var watch = UsageWatch()
      for minute in stride(from: next - 10 * day, to: next, by: 10) {
        _ = watch.observe(900 + Double(random.next() % 201), at: minute)
      }
      let store = UsageWatchStore(try database.connection())
      try database.execute(
        "insert into usage_watch_series (customer_id, meter) values ('', 'api_calls'), ('cus_test', 'api_calls')"
      )
      try store.store(
        ["", "cus_test"].map {
          .init(customer: $0, meter: "api_calls", state: watch.state(), calls: 0)
        })
      return store
    }

    private static func told(_ database: TestDatabase) throws -> [String] {
      try database.rows(
        """
        select (data->>'direction') || ' ' || (data->>'status') || ' ' || coalesce(data->>'customer_id', '-')
        from alert where type = 'usage.anomaly' order by alert_id
        """
      ).map { $0[0] ?? "" }
    }

    private struct Death: Error {}

    @Test
    func `Calls that stop are reported once and only to the vendor, whatever dies on the way`()
      throws
    {
      let (database, store, next) = try Self.watched()
      for slot in 0..<6 {
        // An attempt that dies before its commit has reported nothing and learnt nothing.
        #expect(throws: Death.self) {
          try store.connection.transaction {
            _ = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10)
            throw Death()
          }
        }
        try store.connection.transaction {
          _ = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10)
        }
      }
      #expect(try Self.told(database) == ["stopped began -", "stopped began cus_test"])
      #expect(
        try database.rows("select distinct endpoint_id from webhook_delivery").map { $0[0] }
          == ["ep_vendor"])
      #expect(try database.integer("select count(*) from usage_watch_series where is_open") == 2)

      let minutes = (0..<60).map { "[\($0),100,100]" }.joined(separator: ",")
      try database.execute(
        """
        insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset,
          last_offset, quantity, event_count, minutes)
        values ('lic_1', 'api_calls', to_timestamp(\(next + 60)::bigint * 60), 1, 0, 0, 1, 6000,
          6000, '\(minutes)')
        """)
      for slot in 6..<12 {
        try store.connection.transaction {
          _ = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10)
        }
      }
      #expect(
        try Self.told(database).suffix(2) == ["stopped ended -", "stopped ended cus_test"])
      #expect(try Self.told(database).count == 4)
      #expect(try database.integer("select count(*) from usage_watch_series where is_open") == 0)
    }

    @Test func `An outage is reported for the meter and its largest customers, with the total`()
      throws
    {
      let (database, store, next) = try Self.watched()
      try database.execute(
        """
        insert into usage_watch_series (customer_id, meter, state)
        select 'cus_' || n, 'api_calls', state from generate_series(1, 40) n, usage_watch_series
        where customer_id = ''
        """)
      for slot in 0..<6 { _ = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10) }
      #expect(try Self.told(database).count == 1 + UsageAnomalyBudget.customers)
      #expect(
        try database.rows(
          "select distinct data->>'customers_affected' from alert where type = 'usage.anomaly'")
          == [["41"]])
      #expect(
        try database.integer("select count(*) from usage_watch_series where is_open") == 21)
      // A customer who was not told about the beginning is not told about the end either.
      let minutes = (0..<60).map { "[\($0),100,100]" }.joined(separator: ",")
      try database.execute(
        """
        insert into customer (customer_id, name)
        select 'cus_' || n, n from generate_series(1, 40) n;
        insert into license (license_id, customer_id, plan, issued_at, expires_at,
          billing_anchor_day)
        select 'lic_of_' || n, 'cus_' || n, 'professional', now(), now() + interval '1 year', 1
        from generate_series(1, 40) n;
        insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset,
          last_offset, quantity, event_count, minutes)
        select license_id, 'api_calls', to_timestamp(\(next + 60)::bigint * 60), 1, 0, 0, 1, 6000,
          6000, '\(minutes)' from license
        """)
      for slot in 6..<9 { _ = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10) }
      let stopped = try Self.told(database).filter { $0.hasPrefix("stopped") }
      #expect(stopped.count == 2 * (1 + UsageAnomalyBudget.customers))
      #expect(
        Set(stopped.filter { $0.contains("ended") })
          == Set(
            stopped.filter { $0.contains("began") }.map {
              $0.replacing("began", with: "ended")
            }))
      #expect(
        try database.integer(
          "select count(*) from usage_watch_series where is_open and customer_id <> ''") == 0)
    }

    @Test func `Detectors that are killed report an outage once, with a delivery for the vendor`()
      throws
    {
      let pipeline = try Pipeline(partitions: 2)
      let database = pipeline.database
      let now =
        try database.integer("select floor(extract(epoch from now()) / 600)::bigint * 10") ?? 0
      let first = now - 60
      try database.addLicense("lic_1")
      try database.execute(
        "insert into webhook_endpoint (endpoint_id, url) values ('ep_vendor', 'https://example.org/')"
      )
      try Self.teach(database, until: first)
      // Totals with an open anomaly stay when the detector chooses what to watch.
      try database.execute("update usage_watch_series set is_open = true")
      try database.execute(
        "insert into usage_watch (next_slot) values (to_timestamp(\(first)::bigint * 60))")
      try pipeline.log.send(UsageEventText(id: "e1", subject: "lic_1"))
      _ = try pipeline.start()
      try pipeline.waitUntilCounted()
      func started() throws -> ConsumerProcess {
        try pipeline.startDetector(environment: ["METER_CHECKPOINT_INTERVAL": "200ms"])
      }
      let other = try started()
      func told() throws -> Int64 { try database.integer("select count(*) from alert") ?? 0 }
      try eventually("the outage is reported", within: 60) {
        let killed = try started()
        try killed.waitUntilReady()
        killed.process.killNow()
        return try told() > 0
      }
      try eventually("the slots are judged") {
        try database.integer(
          "select (extract(epoch from next_slot) / 60)::bigint from usage_watch") ?? 0 >= now - 10
      }
      #expect(try Self.told(database) == ["stopped began -", "stopped began cus_test"])
      #expect(try database.integer("select count(*) from webhook_delivery") == 2)
      try pipeline.expectStops(other)
    }

    @Test func `A state of another version starts over`() throws {
      let (database, store, next) = try Self.watched()
      try database.execute("update usage_watch_series set state = set_byte(state, 0, 99)")
      for slot in 0..<6 {
        let told = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10)
        #expect(told.isEmpty)
      }
    }

    @Test
    func `Ten minutes are judged when the aggregator has passed the records after them`()
      throws
    {
      let database = try TestDatabase()
      let store = UsageWatchStore(try database.connection())
      try database.execute(
        """
        insert into customer (customer_id, name) values ('cus_1', 'One');
        insert into usage_customer_day
        select c, 'api_calls', (now() at time zone 'UTC')::date, 100, 100 from unnest(array['', 'cus_1']) c;
        insert into usage_watch (next_slot)
        values (to_timestamp(floor(extract(epoch from now()) / 600) * 600) - interval '30 minutes')
        """)
      func judgeNext() throws -> UsageWatcher.Outcome {
        try store.connection.transaction {
          try UsageWatcher.judgeNext(store, topic: "t", customers: 10)
        }
      }
      func judge() throws -> Bool {
        if case .judged = try judgeNext() { true } else { false }
      }
      // Kafka is asked outside of the transaction, because the server ends an idle one.
      guard case .needsEnds(let minute, let epoch) = try judgeNext() else {
        Issue.record("the log's ends are not read")
        return
      }
      func cover(_ minute: Int64, _ ends: [Int64], ofEpoch epoch: Int64 = epoch) throws {
        try store.cover(
          until: minute, logEnds: ends, ofEpoch: epoch, group: UsageWatcher.group, topic: "t")
      }
      // The log was replaced while its ends were read.
      try cover(minute, [0, 99], ofEpoch: epoch - 1)
      try cover(minute, [0, 5])
      // A slower process does not take back what is known about a later minute.
      try cover(minute - 10, [0, 0])
      #expect(try judgeNext() == .idle)
      try database.execute(
        "insert into consumer_offset (consumer_group, topic, partition, next_offset) values ('usage-aggregator', 't', 1, 4)"
      )
      #expect(try !judge())
      try database.execute("update consumer_offset set next_offset = 5")
      #expect(try judge())
      #expect(try judge())
      #expect(
        try database.rows("select customer_id from usage_watch_series order by 1").map { $0[0] }
          == ["", "cus_1"])
      // A process that does not hold the lock judges nothing.
      let other = try PostgresConnection(url: database.url, application: "other")
      try other.execute("begin")
      #expect(try UsageWatchStore(other).lock())
      #expect(try !judge())
      try other.execute("rollback")
    }
  }
}
