import Foundation
import KafkaTransport
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// A real server's log of 2015. It is not part of the project.
  @Suite struct ImportLogTests {
    private static let log = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "shared/data/access-log/access.log").path

    @Test(
      "A real log, cut off and imported again, counts per host, hour and day as awk counts it",
      .enabled(if: FileManager.default.fileExists(atPath: log)))
    func realLog() throws {
      let pipeline = try Pipeline(partitions: 8)
      let aggregator = try pipeline.start()
      // The log is repeated ten times, so that the import can be cut off, and gets two lines that
      // are no log lines.
      let file = NSTemporaryDirectory() + "access-\(UUID().uuidString).log"
      defer { try? FileManager.default.removeItem(atPath: file) }
      let text = try String(contentsOfFile: Self.log, encoding: .utf8)
      try ("no log line\n" + String(repeating: text, count: 10) + "another\n").write(
        toFile: file, atomically: true, encoding: .utf8)
      let arguments = [
        "import-log", file, "--format", "combined", "--license-from", "host", "--json",
      ]

      let cutOff = try ChildProcess(
        ChildProcess.product("meterctl"), arguments,
        environment: [
          "METER_KAFKA_BROKERS": pipeline.log.brokers, "METER_DATABASE_URL": pipeline.database.url,
        ])
      try eventually("some of it is counted") {
        try pipeline.database.integer("select sum(next_offset)::bigint from consumer_offset") ?? 0
          > 0
      }
      cutOff.killNow()
      let first = try Meterctl.run(arguments, pipeline)
      #expect(first.exit == 0, "\(first.output)")
      #expect(first.output.contains(#""rejected": 2"#) || first.output.contains(#""rejected":2"#))
      for line in ["line 1:", "line 100002:"] {
        #expect(first.output.contains(line), "\(first.output.suffix(600))")
      }
      let again = try Meterctl.run(arguments, pipeline)
      #expect(again.exit == 3, "\(again.output)")
      try pipeline.waitUntilCounted()

      #expect(
        try pipeline.database.integer("select sum(quantity)::bigint from usage_by_hour") == 100_000)
      // Field 4 is [17/May/2015:10:05:03 in UTC.
      try expectSame(
        pipeline, #"{ n[$1 " " substr($4, 2, 14)]++ } END { for (k in n) print k, 10 * n[k] }"#,
        "select license_id || ' ' || to_char(bucket_start at time zone 'UTC', 'DD/Mon/YYYY:HH24') || ' ' || quantity from usage_by_hour"
      )
      try expectSame(
        pipeline, #"{ n[$1 " " substr($4, 2, 11)]++ } END { for (k in n) print k, 10 * n[k] }"#,
        "select license_id || ' ' || to_char(bucket_start at time zone 'UTC', 'DD/Mon/YYYY') || ' ' || quantity from usage_by_day"
      )
      try Meterctl.expectReconciled(pipeline)
      try pipeline.expectStops(aggregator)
    }

    @Test
    func `Every spelling of a path counts for its license, and refusals are listed by reason`()
      throws
    {
      let pipeline = try Pipeline(partitions: 4)
      let aggregator = try pipeline.start()
      let file = NSTemporaryDirectory() + "paths-\(UUID().uuidString).log"
      defer { try? FileManager.default.removeItem(atPath: file) }
      func line(_ target: String, user: String = "-", status: String = "200") -> String {
        "2001:DB8::1 - \(user) [17/May/2015:10:05:03 +0000] \"GET \(target) HTTP/2.0\" \(status) 1"
          + " \"-\" \"curl\" \"-\""
      }
      let counted = [
        line("/lic_pct/"), line("/lic%5Fpct/"), line("//lic_pct/"), line("/./lic_pct/"),
        line("/x/../lic_pct/"), line("/lic_pct;jsessionid=1"), line("http://host/lic_pct/"),
        line("/lic_pct", user: "\"\""), line("/lic_pct", user: #"a\"b"#),
        line("/lic_pct", status: "000"), line("/lic_pct") + "\r",
        line("/lic_pct?" + String(repeating: "x", count: 100_000)),
      ]
      let refused = [line("/lic%2Fpct"), line("/lic%2Fb"), line("*"), "no line"]
      try
        ("\u{FEFF}" + counted[0] + "\n" + String(repeating: "\0", count: 3_000_000)
        + (counted.dropFirst() + refused).joined(separator: "\n") + "\n")
        .write(toFile: file, atomically: true, encoding: .utf8)

      let paths = try Meterctl.run(
        ["import-log", file, "--format", "main", "--license-from", "path", "--json"], pipeline)
      #expect(paths.exit == 0, "\(paths.output)")
      #expect(paths.output.contains(#""rejected": 4"#), "\(paths.output)")
      #expect(paths.output.contains(#""the path has an encoded slash": 2"#), "\(paths.output)")
      try pipeline.waitUntilCounted()
      #expect(
        try pipeline.database.rows("select license_id, quantity::text from usage_by_day")
          == [["lic_pct", "\(counted.count)"]])
      try pipeline.expectStops(aggregator)
    }

    @Test(.mockClusterOnly)
    func `An import whose batches are refused counts every line when it is continued`() throws {
      let pipeline = try Pipeline(partitions: 4)
      let aggregator = try pipeline.start()
      let file = NSTemporaryDirectory() + "refused-\(UUID().uuidString).log"
      defer { try? FileManager.default.removeItem(atPath: file) }
      let lines = 40_000
      let text = (0..<lines).map { n in
        "10.0.\(n % 50).1 - - [17/May/2015:10:05:\(10 + n % 50) +0000] \"GET / HTTP/1.1\" 200 1"
      }
      try (text.joined(separator: "\n") + "\n").write(
        toFile: file, atomically: true, encoding: .utf8)
      let arguments = [
        "import-log", file, "--format", "common", "--license-from", "host", "--json",
      ]
      // MSG_SIZE_TOO_LARGE is permanent. A run that stops at its first refusal leaves the others
      // to the next run.
      pipeline.log.cluster.pushRequestErrors(apiKey: .produce, [10, 10, 10, 10])
      var runs = 0
      while true {
        let run = try Meterctl.run(arguments, pipeline)
        runs += 1
        if run.exit == 0 { break }
        #expect(run.output.contains("run the same command to continue"), "\(run.output)")
        try #require(runs <= 5, "\(run.output)")
      }
      #expect(runs > 1)
      try pipeline.waitUntilCounted()
      #expect(
        try pipeline.database.integer("select sum(quantity)::bigint from usage_by_hour")
          == Int64(lines))
      try pipeline.expectStops(aggregator)
    }

    private func expectSame(_ pipeline: Pipeline, _ program: String, _ sql: String) throws {
      let awk = try ChildProcess("/usr/bin/env", ["awk", program, Self.log])
      try eventually(
        "all of awk's output: \(awk.isRunning), \(awk.output.utf8.count) bytes", within: 20
      ) {
        awk.outputEnded
      }
      #expect(awk.wait() == 0)
      let counted = Set(awk.output.split(separator: "\n").map(String.init))
      let stored = Set(try pipeline.database.rows(sql).map { $0[0]! })
      #expect(counted.count > 100)
      #expect(stored.symmetricDifference(counted).sorted().prefix(5) == [])
    }
  }
}
