import MeteringTestKit
import PostgresStore
import Testing

/// What is removed after 400 days, and what must stay.
@Suite struct RetentionTests {
  private let database: TestDatabase
  private let store: RetentionStore

  init() throws {
    database = try TestDatabase()
    store = RetentionStore(try database.connection())
  }

  private func column(_ sql: String) throws -> [String?] { try database.rows(sql).map { $0[0] } }

  @Test func `An old alert is removed with its deliveries, unless one is still to be made`() throws
  {
    try database.execute(
      """
      insert into customer (customer_id, name) values ('c', 'c');
      insert into webhook_endpoint (endpoint_id, customer_id, url, events)
        values ('e', 'c', 'https://example.com/', '{*}');
      insert into alert (type, occurred_at, created_at, data, dedupe_key)
        select 'license.test', now() - make_interval(days => age), now() - make_interval(days => age),
          '{}', name
        from (values ('young', 399), ('old', 401), ('waits', 401)) a(name, age);
      insert into webhook_delivery (alert_id, endpoint_id, webhook_id, status, next_attempt_at, finished_at)
        select alert_id, 'e', dedupe_key, case dedupe_key when 'waits' then 'pending' else 'delivered' end,
          case dedupe_key when 'waits' then now() end, case dedupe_key when 'waits' then null else now() end
        from alert;
      insert into webhook_attempt (delivery_id, attempt, at, status_code, duration_ms)
        select delivery_id, 1, now(), 200, 1 from webhook_delivery;
      """)
    try store.retainAlerts()
    #expect(try column("select dedupe_key from alert order by 1") == ["waits", "young"])
    #expect(try column("select webhook_id from webhook_delivery order by 1") == ["waits", "young"])
    #expect(try database.integer("select count(*) from webhook_attempt") == 2)
  }

  @Test func `An old dead letter is removed once the log no longer has it and its copy is made`()
    throws
  {
    try database.execute(
      """
      insert into consumer_offset (consumer_group, topic, partition, next_offset, log_epoch)
        values ('g', 't', 0, 100, 2), ('g', 't', 1, 100, 2);
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail,
        received_at, forwarded_at)
      values ('t', 0, 1, 2, 'g', 'old', '', now() - interval '401 days', now()),
        ('t', 0, 2, 2, 'g', 'not forwarded', '', now() - interval '401 days', null),
        ('t', 0, 50, 2, 'g', 'in the log', '', now() - interval '401 days', now()),
        ('t', 0, 50, 1, 'g', 'of another log', '', now() - interval '401 days', now()),
        ('t', 0, 3, 2, 'g', 'young', '', now() - interval '399 days', now()),
        ('t', 1, 1, 2, 'g', 'unknown', '', now() - interval '401 days', now()),
        ('t', 0, 1, 2, 'other', 'another group', '', now() - interval '401 days', now());
      """)
    try store.retainDeadLetters(group: "g", topic: "t", lows: [(partition: 0, low: 50)])
    #expect(
      try column("select reason from dead_letter order by 1") == [
        "another group", "in the log", "not forwarded", "unknown", "young",
      ])
  }

  @Test func `An old report is removed with its counts, unless a partition remembers its producer`()
    throws
  {
    try database.execute(
      """
      insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped, final,
        reported_at, log_epoch)
      select 'g', 't', name, 1, 0, 0, true, now() - make_interval(days => age), 1
      from (values ('forgotten', 401), ('remembered', 401), ('young', 399)) r(name, age);
      insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped, final,
        reported_at, log_epoch)
      select 'g', 't', 'a' || n, 1, 0, 0, true, now(), 1 from generate_series(1, 2500) n;
      insert into producer_sequence (consumer_group, topic, partition, producer, sequence, dead_sequence,
        counted, duplicates, repeated, dead_lettered, forgotten)
      select 'g', 't', p, name, 5, -1, 1, 0, 0, 0, name <> 'remembered' or p = 0
      from (values ('forgotten'), ('remembered'), ('young')) r(name), generate_series(0, 1) p;
      """)
    try store.retainReports(group: "g", topic: "t")
    #expect(
      try column(
        "select producer from producer_report where producer not like 'a%' order by 1")
        == ["remembered", "young"])
    #expect(try database.integer("select count(*) from producer_report") == 2_502)
    #expect(
      try column("select distinct producer from producer_sequence order by 1")
        == ["remembered", "young"])
  }
}
