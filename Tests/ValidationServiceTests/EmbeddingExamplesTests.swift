import Foundation
import KafkaTransport
import MeteringTestKit
import Testing

/// Runs the examples of docs/embedding.md, exactly as printed there, against a broker.
struct EmbeddingExamplesTests {
  static func example(_ name: String) throws -> String {
    let page = try String(contentsOfFile: "docs/embedding.md", encoding: .utf8)
    let parts = page.components(separatedBy: "<!-- run: \(name) -->\n```")
    let block = try #require(parts.count == 2 ? parts[1] : nil)
    return block.components(separatedBy: "\n```")[0].split(
      separator: "\n", omittingEmptySubsequences: false
    )
    .dropFirst().joined(separator: "\n")
  }

  static func arrives(_ id: String, _ log: UsageLog, from program: ChildProcess) throws {
    #expect(program.wait() == 0, "\(program.output)")
    var found: [String: Any]?
    try log.readAll { record in
      guard let value = record.value else { return }
      #expect(record.key.map { String(decoding: $0, as: UTF8.self) } == "lic_abc123")
      found = try JSONSerialization.jsonObject(with: Data(value)) as? [String: Any]
    }
    #expect(found?["id"] as? String == id && found?["subject"] as? String == "lic_abc123")
  }

  @Test("The event that the example with kcat sends arrives")
  func kcat() throws {
    let log = try UsageLog(partitions: 2)
    try Self.arrives(
      "kcat-1", log,
      from: ChildProcess(
        "/bin/sh", ["-c", Self.example("kcat")], environment: ["METER_KAFKA_BROKERS": log.brokers]))
  }

  @Test(
    "The event that the example in Python sends arrives",
    .enabled(if: FileManager.default.isExecutableFile(atPath: Schemathesis.folder + "python")))
  func python() throws {
    let log = try UsageLog(partitions: 2)
    try Self.arrives(
      "python-1", log,
      from: ChildProcess(
        Schemathesis.folder + "python", ["-c", Self.example("python")],
        environment: ["METER_KAFKA_BROKERS": log.brokers]))
  }
}
