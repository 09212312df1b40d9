import MeteringTestKit
import Testing

@testable import meterctl

extension IntegrationTests {
  /// How people see ids that customers choose.
  @Suite struct TerminalTests {
    /// Clears the screen, forges a line, changes the text direction, and ends with a C1 control and
    /// a tag.
    private static let hostile = "lic_\u{1B}[2J\nEQUAL\u{202E}\u{2066}\u{9B}31m\u{E0041}"

    private static func expectTame(
      _ arguments: [String], _ pipeline: Pipeline, exit: Int32 = 0,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let answer = try Meterctl.run(arguments, pipeline)
      #expect(answer.exit == exit, "\(answer.output)", sourceLocation: sourceLocation)
      #expect(
        answer.output.unicodeScalars.allSatisfy { $0 == "\n" || Terminal.isHarmless($0) },
        "\(arguments)", sourceLocation: sourceLocation)
      #expect(answer.output.contains("lic_"), sourceLocation: sourceLocation)
      #expect(
        !answer.output.split(separator: "\n").contains { $0.hasPrefix("EQUAL") },
        sourceLocation: sourceLocation)
    }

    @Test("No command passes on control characters for a terminal: each prints the id with escapes")
    func ids() throws {
      let pipeline = try Pipeline(partitions: 1)
      try pipeline.database.addLicense(Self.hostile, domains: ["example.com"])
      let aggregator = try pipeline.start()
      let escaped = #"lic_\u001b[2J\nEQUAL\u202e\u2066\u009b31m\udb40\udc41"#
      let now = UsageEventText.time(milliseconds: UsageEventText.now)
      for (id, extra) in [("\(escaped)", ""), ("bad", #","meter":"lic_\u001b[2J\u202e""#)] {
        try pipeline.log.send(
          key: Self.hostile,
          value: Array(
            """
            {"specversion":"1.0","id":"\(id)","source":"/x","type":"license.usage.recorded",\
            "subject":"\(escaped)","time":"\(now)","data":{"quantity":1\(extra)}}
            """.utf8))
      }
      try pipeline.waitUntilCounted()
      try Self.expectTame(["license", "list"], pipeline)
      try Self.expectTame(["license", "show", Self.hostile], pipeline)
      try Self.expectTame(["license", "show", Self.hostile, "--json"], pipeline)
      try Self.expectTame(
        [
          "dead-letters", "show", "--topic", UsageLog.topic, "--partition", "0", "--offset", "1",
        ], pipeline)
      let hours = ["--from", "2020-01-01", "--to", "2100-01-01"]
      try Self.expectTame(["explain", "--license", Self.hostile] + hours, pipeline)
      try eventually("the row is merged") {
        try pipeline.database.integer("select count(*) from usage_pending") == 0
      }
      try pipeline.database.execute("update usage_hour set quantity = quantity + 1")
      try Self.expectTame(["reconcile"], pipeline, exit: 1)
      try pipeline.expectStops(aggregator)
    }

    @Test("Escapes say which character it was, and lines stay where a text has several")
    func escapes() {
      #expect(Terminal.printable("a\u{1B}[31m\u{202E}b\n") == #"a\u{1b}[31m\u{202e}b\u{a}"#)
      #expect(Terminal.printable("a\r\nb\u{2028}", keepingLines: true) == "a\\u{d}\nb\\u{2028}")
      #expect(Terminal.printable("Müller 日本 ☕") == "Müller 日本 ☕")
      #expect(JSON.text("\u{202E}\u{E0041}\u{1B}").compact == #""\u202e\udb40\udc41\u001b""#)
      #expect(Terminal.table(["x"], [["a\u{7}b"]]) == "x\na\\u{7}b")
    }
  }
}
