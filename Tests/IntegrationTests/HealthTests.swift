import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  @Suite struct HealthTests {
    @Test("What is missing at the start is named, and the service recovers without a restart")
    func missingThings() throws {
      // At first there is neither a schema nor a topic. Then they come one after the other.
      let database = TestDatabase(url: try SharedPostgres.makeDatabase(migrated: false))
      let pipeline = try Pipeline(
        log: UsageLog(partitions: 2, makesTopics: false), database: database)
      try pipeline.log.cluster.setBrokerDown()
      let aggregator = try pipeline.start()
      try aggregator.waitUntilUnavailable("the database has no schema; run: meterctl migrate")

      _ = try Schema.migrate(database.connection())
      try database.execute("update schema_version set version = 99, min_compatible = 99")
      try aggregator.waitUntilUnavailable("the schema is at version 99")
      try database.execute("update schema_version set version = 0, min_compatible = 0")
      try aggregator.waitUntilUnavailable("the schema is at version 0")
      try database.execute("update schema_version set version = 99, min_compatible = 1")
      // This schema is newer but compatible, so the aggregator goes on to the broker, which is
      // down.
      try aggregator.waitUntilUnavailable("Broker transport failure")
      // The topic is known to the mock cluster, which answers as if it were not
      // (UNKNOWN_TOPIC_OR_PART).
      do {
        try pipeline.log.cluster.createTopic(UsageLog.topic, partitions: 2)
      } catch {
        guard error.isTopicAlreadyThere else { throw error }
        // The mock cluster creates a topic as soon as anybody asks for it, even if the request does
        // not allow that.
      }
      pipeline.log.cluster.setTopicError(UsageLog.topic, code: 3)
      try pipeline.log.cluster.setBrokerUp()
      try aggregator.waitUntilUnavailable("the topic license.usage.v1 is missing")
      pipeline.log.cluster.setTopicError(UsageLog.topic, code: 0)
      try aggregator.waitUntilReady()

      var traffic = Traffic(pipeline.log)
      try traffic.send(50)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(aggregator)
      expectNone(try traffic.truth.differences(pipeline.database))
    }

    @Test(
      "A database that cannot be reached, or refuses the password, is named without its password")
    func unreachableDatabase() throws {
      let pipeline = try Pipeline(partitions: 2)
      let nobody = try FreePort.next()
      let aggregator = try pipeline.start(
        by: "postgresql://metering:hunter2secret@127.0.0.1:\(nobody)/metering")
      try aggregator.waitUntilUnavailable("PostgreSQL, connect")
      #expect(aggregator.ready()?.body.contains("hunter2secret") == false)
      #expect(!aggregator.process.output.contains("hunter2secret"))
      try pipeline.expectStops(aggregator)
    }

    @Test(
      "A wrong setting ends the process with 78 and one line that names it",
      arguments: [
        ["METER_KAFKA_BROKERS": ""], ["METER_DATABASE_URL": ""],
        ["METER_FLUSH_INTERVAL": "50"], ["METER_DEDUPE_WINDOW": "-1"],
        ["METER_ADMIN_BIND": "nowhere"], ["METER_KAFKA_CONFIG_FILE": "/does/not/exist"],
        ["METER_LOG_LEVEL": "loud"],
      ])
    func wrongSetting(_ setting: [String: String]) throws {
      let aggregator = try ConsumerProcess(
        brokers: "127.0.0.1:1", databaseURL: "postgresql://u:hunter2secret@127.0.0.1:1/d",
        environment: setting)
      try eventually("the end", within: 10) { !aggregator.process.isRunning }
      #expect(aggregator.process.wait() == 78)
      try eventually("a line") { aggregator.process.output.hasSuffix("\n") }
      let output = aggregator.process.output
      #expect(output.split(separator: "\n").count == 1, "\(output)")
      #expect(output.contains(setting.keys.first!))
      #expect(!output.contains("hunter2secret"))
    }

    @Test func `A thread that stands still is named, ends life, and is forgiven when it moves`()
      throws
    {
      let pipeline = try Pipeline(partitions: 2)
      let proxy = try PostgresProxy(to: PostgresAddress.port(of: pipeline.database.url))
      defer { proxy.shutDown() }
      let aggregator = try pipeline.start(
        by: proxy.url(like: pipeline.database.url), environment: ["METER_THREAD_PATIENCE": "2s"])
      try aggregator.waitUntilReady()
      #expect(HTTPGet.get(port: aggregator.adminPort, "/health/live")?.status == 200)

      // PostgreSQL gets the commit, and its answer is held back. The flusher waits in libpq.
      proxy.arm(.answerLost, .hold)
      var traffic = Traffic(pipeline.log)
      try traffic.send(50)
      try #require(proxy.waitUntilFired())
      try aggregator.waitUntilUnavailable("thread flusher")
      let live = try #require(HTTPGet.get(port: aggregator.adminPort, "/health/live"))
      #expect(live.status == 503)
      #expect(live.body.contains(#""status":"stalled","problems":{"thread flusher":"it has not"#))
      #expect(try #require(aggregator.metric("meter_threads_standing_still")) >= 1)
      // The consumer waits for the flusher, and its own heartbeat says so.
      #expect(!live.body.contains("thread consumer"))

      proxy.release()
      try aggregator.waitUntilReady()
      #expect(HTTPGet.get(port: aggregator.adminPort, "/health/live")?.status == 200)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      try pipeline.expectStops(aggregator)
    }

    /// No statement timeout ends this wait, because the statement is over and the commit waits.
    @Test
    func `Commits that wait for an absent standby are reported, and count once when it is back`()
      throws
    {
      let postgres = try PrivatePostgres()
      let pipeline = try Pipeline(
        database: TestDatabase(url: postgres.makeDatabase()), partitions: 2)
      let aggregator = try pipeline.start(environment: ["METER_THREAD_PATIENCE": "2s"])
      var traffic = Traffic(pipeline.log)
      try traffic.send(50)
      try pipeline.waitUntilCounted()
      func standbys(_ names: String) throws {
        try pipeline.database.execute("alter system set synchronous_standby_names = '\(names)'")
        _ = try pipeline.database.rows("select pg_reload_conf()")
      }
      try standbys("nobody")
      try traffic.send(50)
      try aggregator.waitUntilUnavailable("thread flusher")
      #expect(HTTPGet.get(port: aggregator.adminPort, "/health/live")?.status == 503)
      try standbys("")
      try pipeline.waitUntilCounted()
      try aggregator.waitUntilReady()
      expectNone(try traffic.truth.differences(pipeline.database))
      try pipeline.expectStops(aggregator)
    }

    @Test("After SIGTERM everything taken is stored, and the process exits with 0 within 10 s")
    func sigterm() throws {
      let pipeline = try Pipeline(partitions: 2)
      // No flush is due by time, so only the shutdown flushes.
      let aggregator = try pipeline.start(
        environment: ["METER_FLUSH_INTERVAL": "10s", "METER_CATCH_UP_FLUSH_INTERVAL": "10s"])
      try aggregator.waitUntilReady()
      try eventually("partitions") { aggregator.metric("meter_owned_partitions") == 2 }
      var traffic = Traffic(pipeline.log)
      try traffic.send(500)
      // Gauges are written every 500 ms. Everything is taken once they show no lag for longer than
      // that.
      var calm = 0
      try eventually("taken") {
        calm = aggregator.metric("meter_consumer_lag") == 0 ? calm + 1 : 0
        return calm > 40
      }
      #expect(try pipeline.database.integer("select count(*) from usage_by_hour") == 0)
      try pipeline.expectStops(aggregator)
      expectNone(try traffic.truth.differences(pipeline.database))
    }
  }
}
