import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  @Suite struct StatusTests {
    private func document(_ output: String) throws -> [String: Any] {
      // The output includes stderr, so the document begins at the first brace.
      let text = output.drop { $0 != "{" }
      return try #require(
        try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    @Test func `Status says first what is wrong, ends 1, and its ledger adds up`() throws {
      let pipeline = try Pipeline(partitions: 2)
      let well = try Meterctl.run(["status"], pipeline)
      #expect(well.exit == 0 && well.output.contains("nothing is wrong"), "\(well.output)")

      try pipeline.database.execute(
        """
        insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped, final,
          reported_at, log_ends, log_epoch, judged_at)
        values ('usage-aggregator', 'license.usage.v1', 'eu-1', 100, 1, 2, true, now(), '{0,0}', 1, now());
        insert into producer_sequence (consumer_group, topic, partition, producer, sequence, dead_sequence,
          counted, duplicates, repeated, dead_lettered)
        values ('usage-aggregator', 'license.usage.v1', 0, 'eu-1', 100, 0, 80, 3, 5, 2);
        insert into partition_halt (consumer_group, topic, partition, reason, remedy) values
          ('usage-aggregator', 'license.usage.v1', 1, 'the log ends at 3', 'meterctl topics new-epoch'),
          ('usage-aggregator', 'license.usage.v1', 0, 'the log ends at 4', 'meterctl topics new-epoch');
        insert into webhook_endpoint (endpoint_id, customer_id, url, consecutive_failures, failing_since)
        values ('ep', null, 'https://example.com/', 3, now());
        """)
      let text = try Meterctl.run(["status"], pipeline)
      #expect(text.exit == 1, "\(text.output)")
      let lines = text.output.split(separator: "\n")
      #expect(lines[1].hasPrefix("WRONG  usage-aggregator has halted"), "\(text.output)")
      #expect(lines[1].contains("partition 0, 1") && lines[1].contains("meterctl topics new-epoch"))
      #expect(text.output.contains("10 events are missing"), "\(text.output)")
      #expect(text.output.contains("1 webhook endpoints fail"), "\(text.output)")
      #expect(!text.output.contains("\u{1B}"), "a pipe takes no colors")

      let json = try Meterctl.run(["status", "--json"], pipeline)
      #expect(json.exit == 1)
      let status = try document(json.output)
      #expect((status["problems"] as? [String])?.count == 3, "\(json.output)")
      #expect((status["halted_partitions"] as? [[String: Any]])?.count == 2)
      let row = try #require((status["ledger"] as? [[String: Any]])?.first)
      func number(_ name: String) -> Int { row[name] as? Int ?? -1 }
      #expect(row["topic"] as? String == UsageLog.topic)
      #expect(row["consumer_group"] as? String == "usage-aggregator")
      #expect(
        number("accepted")
          == ["pending", "dropped", "counted", "repeated", "dead_lettered", "in_flight", "missing"]
          .map(number).reduce(0, +))
    }

    @Test func `Without a broker status shows what PostgreSQL knows, and says what it waits for`()
      throws
    {
      let database = try TestDatabase()
      try database.execute(
        """
        insert into consumer_offset (consumer_group, topic, partition, next_offset)
        values ('usage-aggregator', 'license.usage.v1', 0, 4711)
        """)
      let nobody = try FreePort.next()
      let process = try ChildProcess(
        ChildProcess.product("meterctl"), ["status"],
        environment: [
          "METER_KAFKA_BROKERS": "127.0.0.1:\(nobody)", "METER_DATABASE_URL": database.url,
        ])
      try eventually("the end of meterctl status", within: 60) { !process.isRunning }
      #expect(process.wait() == 1)
      try eventually("all of its output") { process.outputEnded }
      let output = process.output
      #expect(output.contains("waiting for Kafka at 127.0.0.1:\(nobody)"), "\(output)")
      #expect(output.contains("WRONG  Kafka") && output.contains("Connection refused"), "\(output)")
      #expect(output.contains("4,711"), "\(output)")
    }
  }

  @Suite struct TopicFilesTests {
    @Test func `The built-in topic files are those of the folder topics`() throws {
      let folder = NSTemporaryDirectory() + "topics-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let pipeline = try Pipeline(partitions: 2)
      let exported = try Meterctl.run(["topics", "export", folder], pipeline)
      #expect(exported.exit == 0, "\(exported.output)")
      let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "topics").path
      let files = try FileManager.default.subpathsOfDirectory(atPath: source)
      #expect(files.count >= 6)
      for file in files where file.contains(".") {
        #expect(
          FileManager.default.contents(atPath: "\(source)/\(file)")
            == FileManager.default.contents(atPath: "\(folder)/\(file)"), "\(file)")
      }
      let again = try Meterctl.run(["topics", "export", folder], pipeline)
      #expect(again.exit == 3, "\(again.output)")
    }

    @Test func `Outside of the source tree topics diff knows the topics`() throws {
      let pipeline = try Pipeline(partitions: 64)
      let process = try ChildProcess(
        "/usr/bin/env", ["-C", "/", ChildProcess.product("meterctl"), "topics", "diff", "--json"],
        environment: ["METER_KAFKA_BROKERS": pipeline.log.brokers])
      try eventually("the end of meterctl topics diff", within: 60) { !process.isRunning }
      let code = process.wait()
      try eventually("all of its output") { process.outputEnded }
      // The dead-letter topic has two partitions here.
      #expect(code == 1, "\(process.output)")
      #expect(process.output.contains(#""wanted": "8""#), "\(process.output)")
    }

    @Test func `After a topic was doubled, diff and apply find nothing to change, and say why`()
      throws
    {
      let pipeline = try Pipeline(partitions: 4)
      let folder = NSTemporaryDirectory() + "topics-\(UUID().uuidString)"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      // The folder is a temporary one. If it stays, only some disk space is lost.
      defer { try? FileManager.default.removeItem(atPath: folder) }
      func run(_ command: String, file: Int) throws -> (exit: Int32, output: String) {
        try "name: \(UsageLog.topic)\npartitions: \(file)\nreplication: 1\n".write(
          toFile: folder + "/topic.yaml", atomically: true, encoding: .utf8)
        let ran = try Meterctl.run(["topics", command, "--folder", folder, "--json"], pipeline)
        return (ran.exit, ran.output)
      }
      for command in ["diff", "apply"] {
        let doubled = try run(command, file: 2)
        #expect(doubled.exit == 0, "\(doubled.output)")
        #expect(doubled.output.contains("4 partitions, grown from the 2"), "\(doubled.output)")
      }
      for file in [3, 8] {
        #expect(try run("diff", file: file).exit == 1)
        #expect(try run("apply", file: file).exit == 3)
      }
    }
  }
}
