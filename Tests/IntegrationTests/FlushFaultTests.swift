import Foundation
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// Each fault alone, at each step of a flush.
  @Suite struct FlushFaultTests {
    enum Fault: String, CaseIterable { case cut, stall, kill }

    /// One aggregator after another goes through all steps, because joining the group again takes
    /// seconds.
    @Test("Counts equal the truth after a fault at any step of a flush", arguments: Fault.allCases)
    func faultAtEachStep(_ fault: Fault) throws {
      let pipeline = try Pipeline()
      let proxy = try PostgresProxy(to: PostgresAddress.port(of: pipeline.database.url))
      defer { proxy.shutDown() }
      let url = proxy.url(like: pipeline.database.url)
      // Merges use the same proxy, but rarely, so that rows waiting for a merge are read too.
      let environment = ["METER_MERGE_INTERVAL": "500ms"]
      var aggregator = try pipeline.start(by: url, environment: environment)
      var traffic = Traffic(pipeline.log)
      try traffic.send(200)
      try pipeline.waitUntilCounted()
      for (number, step) in PostgresProxy.Step.allCases.enumerated() {
        let process = aggregator.process
        switch fault {
        case .cut: proxy.arm(step, flushesBefore: number % 2, .cut)
        case .stall: proxy.arm(step, flushesBefore: number % 2, .stall(seconds: 1.5))
        case .kill: proxy.arm(step, .run { process.killNow() })
        }
        // This sends enough for the trap's flush to come, whichever flush that is.
        for _ in 0..<6 where !proxy.waitUntilFired(seconds: 0) {
          try traffic.send(60)
          _ = proxy.waitUntilFired(seconds: 1)
        }
        #expect(proxy.waitUntilFired(), "the fault did not happen: \(step)")
        if fault == .kill { aggregator = try pipeline.start(by: url, environment: environment) }
        try traffic.send(40)
        try pipeline.waitUntilCounted()
        expectNone(try traffic.truth.differences(pipeline.database), "\(fault) at \(step)")
      }
      let failures = try #require(aggregator.metric("meter_flush_failures_total"))
      if fault == .cut { #expect(failures >= Double(PostgresProxy.Step.allCases.count)) }
      #expect(aggregator.metric("meter_partition_takeovers_total") == 0)
      try pipeline.expectStops(aggregator)
      expectNone(try traffic.truth.differences(pipeline.database))
    }

    @Test(
      "A commit that runs on after its connection was lost counts once, and nothing is given up")
    func lateCommit() throws {
      let pipeline = try Pipeline()
      let proxy = try PostgresProxy(to: PostgresAddress.port(of: pipeline.database.url))
      defer { proxy.shutDown() }
      let aggregator = try pipeline.start(by: proxy.url(like: pipeline.database.url))
      var traffic = Traffic(pipeline.log)
      try traffic.send(200)
      try pipeline.waitUntilCounted()

      // The server holds the commit back and meanwhile does not notice that its client is gone. The
      // locker has its own connection, because pg_stat_activity does not change within a
      // transaction.
      let locker = try PostgresConnection(url: pipeline.database.url, application: "locker")
      try locker.execute("begin; select * from consumer_offset for update")
      proxy.arm(.commitForwarded, .cut)
      try traffic.send(200)
      #expect(proxy.waitUntilFired())
      try eventually("the second attempt waits behind the first") {
        try pipeline.database.integer(
          "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%flush_offsets%' and datname = current_database()"
        ) == 2
      }
      try locker.execute("rollback")

      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      #expect(aggregator.metric("meter_partition_takeovers_total") == 0)
      try pipeline.expectStops(aggregator)
    }
  }

  /// A process that was stopped in the middle of a flush and comes back when another one has its
  /// partitions.
  @Suite struct ZombieTests {
    @Test(
      "The work of a process that was stopped in mid-flush is dropped",
      arguments: [PostgresProxy.Step.midCopy, .beforeCommit])
    func zombie(_ step: PostgresProxy.Step) throws {
      let pipeline = try Pipeline()
      let proxy = try PostgresProxy(to: PostgresAddress.port(of: pipeline.database.url))
      defer { proxy.shutDown() }
      let first = try pipeline.start(by: proxy.url(like: pipeline.database.url))
      var traffic = Traffic(pipeline.log)
      try traffic.send(100)
      try pipeline.waitUntilCounted()

      proxy.arm(step, .hold)
      try traffic.send(400)
      #expect(proxy.waitUntilFired())
      first.process.signal(SIGSTOP)
      defer { first.process.signal(SIGCONT) }
      let second = try pipeline.start()
      // The second process counts what the first one has half written.
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))

      first.process.signal(SIGCONT)
      proxy.release()
      try eventually("the zombie notices") {
        (first.metric("meter_partition_takeovers_total") ?? 0) > 0
          || (first.metric("meter_flush_failures_total") ?? 0) > 0
      }
      if step == .midCopy {
        // Its transaction was alive, so only the compare-and-set stopped it.
        try eventually("takeovers") { (first.metric("meter_partition_takeovers_total") ?? 0) > 0 }
      }
      try traffic.send(300)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      // It becomes a member like any other.
      try first.waitUntilReady()
      try second.waitUntilReady()
      try eventually("both own partitions") {
        (first.metric("meter_owned_partitions") ?? 0) > 0
          && (second.metric("meter_owned_partitions") ?? 0) > 0
      }
      try traffic.send(100)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
    }
  }
}
