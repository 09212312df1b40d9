import AnomalyDetection
import Foundation
import MeteringTestKit
import PostgresStore
import Testing

@testable import AnomalyDetector

extension IntegrationTests {
  /// Totals from rows of the database to alerts, with no process and no broker.
  @Suite struct UsageWatcherTests {
    /// A Monday, 00:00 UTC, long ago.
    private static let start: Int64 = 29_700_000 / 10_080 * 10_080 + 4 * 1_440
    private static let day: Int64 = 1_440

    /// A database with one customer's usage watched, ten days of which are learnt.
    private static func watched() throws -> (TestDatabase, UsageWatchStore, next: Int64) {
      let database = try TestDatabase()
      try database.addLicense("lic_1")
      try database.execute(
        """
        insert into webhook_endpoint (endpoint_id, customer_id, url) values
          ('ep_customer', 'cus_test', 'https://example.com/'), ('ep_vendor', null, 'https://example.org/')
        """)
      var random = SeededRandom(seed: 1)
      var watch = UsageWatch()
      let next = start + 10 * day
      for minute in stride(from: start, to: next, by: 10) {
        _ = watch.observe(900 + Double(random.next() % 201), at: minute)
      }
      let store = UsageWatchStore(try database.connection())
      try database.execute(
        "insert into usage_watch_series (customer_id, meter) values ('', 'api_calls'), ('cus_test', 'api_calls')"
      )
      try store.store(
        ["", "cus_test"].map {
          (.init(customer: $0, meter: "api_calls", state: watch.state(), calls: 0), false)
        })
      return (database, store, next)
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

    @Test func `Calls that stop are told to the vendor alone, once, whatever dies on the way`()
      throws
    {
      let (database, store, next) = try Self.watched()
      for slot in 0..<6 {
        // What dies before its commit has told nothing and learnt nothing.
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
        insert into usage_hour (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
          quantity, event_count, minutes)
        values ('lic_1', 'api_calls', to_timestamp(\(next + 60)::bigint * 60), 1, 0, 0, 1, 6000, 6000,
          '\(minutes)')
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

    @Test func `A state of another version starts over`() throws {
      let (database, store, next) = try Self.watched()
      try database.execute("update usage_watch_series set state = set_byte(state, 0, 99)")
      for slot in 0..<6 {
        let told = try UsageWatcher.judge(store, slot: next + Int64(slot) * 10)
        #expect(told.isEmpty)
      }
    }

    @Test
    func `Ten minutes are judged when the aggregator has passed what the log held behind them`()
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
      func judge() throws -> Bool {
        try store.connection.transaction {
          try UsageWatcher.judgeNext(store, topic: "t", customers: 10) { [0, 5] } != nil
        }
      }
      #expect(try !judge())
      #expect(try !judge())
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
      // Whoever does not hold the lock judges nothing.
      let other = try PostgresConnection(url: database.url, application: "other")
      try other.execute("begin")
      #expect(try UsageWatchStore(other).lock())
      #expect(try !judge())
      try other.execute("rollback")
    }
  }
}
