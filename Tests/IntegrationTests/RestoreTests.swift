import Foundation
import MeteringTestKit
import PostgresStore
import Testing

extension IntegrationTests {
  /// The drill of docs/operations.md, "Backup and restore": `pg_basebackup`, archived WAL, and events that
  /// flow before and after the backup.
  @Suite struct RestoreTests {
    /// A server that archives its WAL, with a pipeline on it.
    private final class Archived {
      let server: PrivatePostgres
      let pipeline: Pipeline
      var traffic: Traffic

      init() throws {
        server = try PrivatePostgres(settings: ["wal_level": "replica"])
        try server.run(["mkdir", server.folder + "/archive"])
        try server.write(
          [
            "archive_mode = on",
            "archive_command = 'test ! -f \(server.folder)/archive/%f && cp %p \(server.folder)/archive/%f'",
          ], to: "data/postgresql.auto.conf")
        try server.stop()
        try server.start()
        pipeline = try Pipeline(
          log: UsageLog(partitions: 2), database: TestDatabase(url: server.makeDatabase()))
        traffic = Traffic(pipeline.log)
      }

      func backUp() throws {
        try server.run([
          PrivatePostgres.binaries + "/pg_basebackup", "-h", "127.0.0.1", "-p", "\(server.port)",
          "-U", "metering", "-D", server.folder + "/backup", "-X", "stream", "-c", "fast",
        ])
      }

      /// The data of the server is lost, and the backup takes its place.
      func restore(settings: [String], recovers: Bool) throws {
        let data = server.folder + "/data"
        try server.run(["rm", "-rf", data])
        try server.run(["cp", "-a", server.folder + "/backup", data])
        try server.write(settings, to: "data/postgresql.auto.conf")
        if recovers { try server.run(["touch", data + "/recovery.signal"]) }
        try server.start()
        // The connection of before is gone: it is noticed, and replaced, by being used.
        try eventually("it answers") { pipeline.database.rowsIfReachable("select 1") != nil }
      }

      /// Counts what there is, and ends.
      func count() throws {
        let aggregator = try pipeline.start()
        try aggregator.waitUntilReady()
        try pipeline.waitUntilCounted()
        try pipeline.expectStops(aggregator)
      }
    }

    @Test
    func
      `A restored backup counts on from the log to the truth, and WAL brings back what people did`()
      throws
    {
      let archived = try Archived()
      let database = archived.pipeline.database
      try database.addLicense("lic_0")
      try archived.traffic.send(200)
      try archived.count()
      try archived.backUp()

      // What comes behind the backup: events, which the log has too, and a license, which it has not.
      try archived.traffic.send(150)
      try archived.count()
      try database.addLicense("lic_late")
      // A clean stop archives the WAL that is under way.
      try archived.server.stop()

      // Last night's backup alone: offsets went back with the counts.
      try archived.restore(settings: ["archive_mode = off"], recovers: false)
      let counted = try database.integer("select sum(event_count)::bigint from usage_by_day")
      #expect(counted == 200)
      try archived.traffic.send(50)
      try archived.count()
      expectNone(try archived.traffic.truth.differences(database))
      try Meterctl.expectReconciled(archived.pipeline)
      let late = "select count(*) from license where license_id = 'lic_late'"
      #expect(try database.integer(late) == 0)
      try archived.server.stop()

      // The backup and all WAL since: as after a crash.
      try archived.restore(
        settings: [
          "archive_mode = off",
          "restore_command = 'cp \(archived.server.folder)/archive/%f %p'",
        ], recovers: true)
      try eventually("recovery ends") {
        database.rowsIfReachable("select pg_is_in_recovery()") == [["f"]]
      }
      #expect(try database.integer(late) == 1)
      #expect(try database.integer("select sum(event_count)::bigint from usage_by_day") == 350)
      try archived.count()
      expectNone(try archived.traffic.truth.differences(database))
      try Meterctl.expectReconciled(archived.pipeline)
    }
  }
}
