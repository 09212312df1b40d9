import Foundation
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  @Suite struct ViewTests {
    /// Reads all sums in one snapshot, again and again.
    private final class Reader: @unchecked Sendable {
      // These are used with the lock held.
      private let lock = NSLock()
      private var isStopped = false
      private var wrong: [String] = []
      private var snapshots = 0
      private let done = DispatchSemaphore(value: 0)

      func stop() -> (snapshots: Int, wrong: [String]) {
        lock.lock()
        isStopped = true
        lock.unlock()
        done.wait()
        return (snapshots, wrong)
      }

      private var goesOn: Bool {
        lock.lock()
        defer { lock.unlock() }
        return !isStopped
      }

      func start(_ url: String) {
        Thread.detachNewThread { [self] in
          let database = TestDatabase(url: url)
          while goesOn {
            do {
              let sums = try Self.sums(database)
              if Set(sums).count > 1 { wrong.append("\(sums)") }
            } catch {
              wrong.append("\(error)")
            }
            snapshots += 1
          }
          done.signal()
        }
      }

      /// Reads in several statements, as a reader of several views would.
      private static func sums(_ database: TestDatabase) throws -> [String] {
        let connection = try database.connection()
        return try connection.transaction("begin isolation level repeatable read read only") {
          try [
            "usage_by_minute", "usage_by_hour", "usage_by_day", "usage_by_period",
            "usage_by_dimension_day where dimension = 'domain'",
          ].map {
            let rows = try connection.query(
              "select coalesce(sum(quantity), 0) || ' ' || coalesce(sum(event_count), 0) from \($0)"
            )
            return rows.text(0, 0) ?? ""
          }
        }
      }
    }

    @Test("All views agree at every moment while events come and merges run")
    func agreement() throws {
      let pipeline = try Pipeline()
      let environment = ["METER_MERGE_INTERVAL": "50ms", "METER_FLUSH_INTERVAL": "20ms"]
      try pipeline.start(environment: environment)
      try pipeline.start(environment: environment)
      try pipeline.database.addLicense("lic_1", anchorDay: 31)
      let reader = Reader()
      reader.start(pipeline.database.url)
      var traffic = Traffic(pipeline.log)
      for _ in 0..<60 { try traffic.send(100) }
      try pipeline.waitUntilCounted()
      try eventually("merged") {
        try pipeline.database.integer("select count(*) from usage_pending") == 0
      }
      let result = reader.stop()
      #expect(result.wrong.prefix(3) == [])
      #expect(result.snapshots > 20)
      expectNone(try traffic.truth.differences(pipeline.database, anchors: ["lic_1": 31]))
      // Every row says where its events are.
      #expect(
        try pipeline.database.integer(
          "select count(*) from usage_provenance where first_offset > last_offset or log_epoch <> 1"
        ) == 0)
    }

    @Test("A license whose total does not fit is set aside, and stops nobody else's")
    func quarantine() throws {
      let pipeline = try Pipeline(partitions: 1)
      let aggregator = try pipeline.start(environment: ["METER_MAX_QUANTITY": "60000000000000000"])
      var traffic = Traffic(pipeline.log)
      try traffic.send(50)
      for n in 0..<2 {
        var event = UsageEventText(id: "huge\(n)", subject: "lic_huge")
        event.quantity = 60_000_000_000_000_000
        event.domain = "huge.example.com"
        try pipeline.log.send(event)
      }
      try traffic.send(50)
      try pipeline.waitUntilCounted()
      try eventually("the quarantine") {
        try pipeline.database.integer(
          "select sum(event_count)::bigint from usage_quarantine where license_id = 'lic_huge'")
          ?? 0 > 0
      }
      try traffic.send(50)
      try pipeline.waitUntilCounted()
      try eventually("merged") {
        try pipeline.database.integer("select count(*) from usage_pending") == 0
      }
      // The events are counted or set aside, and none is lost.
      #expect(
        try pipeline.database.integer(
          """
          select (select coalesce(sum(event_count), 0) from usage_quarantine)::bigint
            + (select coalesce(sum(event_count), 0) from usage_by_day where license_id = 'lic_huge')::bigint
          """) == 2)
      try pipeline.database.execute("delete from usage_day where license_id = 'lic_huge'")
      try pipeline.database.execute("delete from usage_hour where license_id = 'lic_huge'")
      expectNone(try traffic.truth.differences(pipeline.database))
      #expect(aggregator.process.isRunning)
    }
  }
}
