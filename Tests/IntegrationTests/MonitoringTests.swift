import Foundation
import MeteringTestKit
import Testing

/// One series of a metrics page, or a series that an expression asks for.
private struct Selector: Hashable, CustomStringConvertible {
  var name: String
  var labels: [String: String] = [:]

  var description: String {
    name + "{" + labels.sorted { $0.key < $1.key }.map { "\($0)=\"\($1)\"" }.joined(separator: ",")
      + "}"
  }

  /// Labels that Prometheus adds when it scrapes.
  private static let added: Set<String> = ["job", "instance"]

  /// The series of our processes' metrics that a PromQL expression asks for. Conditions other than
  /// equality, and those with a variable of the dashboard, are ignored.
  static func all(in expression: String) throws -> [Selector] {
    let metric = /\b(?<name>(?:meter|process)_[a-z_]+)(?:\{(?<labels>[^}]*)\})?/
    let matcher = /(?<label>[a-z_]+)(?<operator>=~|!=|!~|=)"(?<value>[^"]*)"/
    return expression.matches(of: metric).map { found in
      var selector = Selector(name: String(found.output.name))
      for match in (found.output.labels ?? "").matches(of: matcher)
      where match.output.operator == "=" && !added.contains(String(match.output.label))
        && !match.output.value.contains("$")
      {
        selector.labels[String(match.output.label)] = String(match.output.value)
      }
      return selector
    }
  }

  /// Whether a line of a metrics page belongs to this series.
  func isServed(by line: Substring) -> Bool {
    guard line.hasPrefix(name + " ") || line.hasPrefix(name + "{") else { return false }
    return labels.allSatisfy { line.contains("\($0)=\"\($1)\"") }
  }
}

extension IntegrationTests {
  @Suite struct MonitoringTests {
    private static let folder = Project.folder + "/deploy/monitoring"

    private static func text(_ name: String) throws -> String {
      try String(contentsOfFile: folder + "/" + name, encoding: .utf8)
    }

    /// The expressions of the alert rules. Each stands alone on the line after `expr: >-`.
    private static func rules() throws -> [String] {
      let lines = try text("alerts.yaml").split(separator: "\n")
      return lines.indices.filter { lines[$0].hasSuffix("expr: >-") }.map { String(lines[$0 + 1]) }
    }

    private static func panels() throws -> [String] {
      let object = try JSONSerialization.jsonObject(with: Data(text("dashboard.json").utf8))
      let panels = try #require((object as? [String: Any])?["panels"] as? [[String: Any]])
      return panels.flatMap { panel in
        (panel["targets"] as? [[String: Any]] ?? []).compactMap { $0["expr"] as? String }
      }
    }

    @Test
    func `A running pipeline serves every series that a rule or the dashboard asks for`() throws {
      let expressions = try Self.rules() + Self.panels()
      let wanted = Set(try expressions.flatMap { try Selector.all(in: $0) })
      try #require(expressions.count > 60 && wanted.count > 40)
      for expression in expressions where !expression.contains("up{job=") {
        #expect(try !Selector.all(in: expression).isEmpty, "\(expression) asks for nothing of ours")
      }

      let pipeline = try Pipeline(partitions: 2)
      let database = pipeline.database.url
      let aggregator = try pipeline.start()
      let detector = try pipeline.start("anomaly-detector")
      let dispatcher = try pipeline.start(
        "webhook-dispatcher",
        environment: ["METER_ENCRYPTION_KEY": Data(repeating: 7, count: 32).base64EncodedString()])
      let apiPort = try FreePort.next()
      let api = try pipeline.start(
        "metering-api", environment: ["METER_HTTP_BIND": "127.0.0.1:\(apiPort)"])
      let validation = try ValidationProcess(
        brokers: pipeline.log.brokers, databaseURL: database)
      let ports = [aggregator, detector, dispatcher, api].map(\.adminPort) + [validation.adminPort]
      var missing = wanted
      // The API has series only after it was asked for something.
      try eventually("the API answers") { HTTPGet.get(port: apiPort, "/v1/status") != nil }
      try eventually("all are served, but not \(missing)") {
        let pages = ports.compactMap { HTTPGet.get(port: $0, "/metrics")?.body }
        let lines = pages.joined(separator: "\n").split(separator: "\n")
        missing = wanted.filter { selector in !lines.contains { selector.isServed(by: $0) } }
        return missing.isEmpty
      }
    }

    @Test
    func
      `Every alert has a unit test that fires it, one that does not, and a page that says what to do`()
      throws
    {
      let names = try Self.text("alerts.yaml").matches(of: /- alert: (\w+)/).map { String($0.1) }
      let tests = try Self.text("alerts.test.yaml")
      let manual = try String(
        contentsOfFile: Project.folder + "/docs/operations.md", encoding: .utf8)
      try #require(names.count > 20)
      for name in names {
        #expect(tests.contains("name: \(name) fires\n"), "\(name)")
        #expect(tests.contains("name: \(name) stays quiet\n"), "\(name)")
        #expect(manual.contains("\n### \(name)\n"), "\(name)")
      }
      #expect(Set(names).count == names.count)
      for heading in manual.matches(of: /\n### (Metering\w+)\n/) {
        #expect(names.contains(String(heading.1)), "\(heading.1) is no longer an alert")
      }
    }

    private static let promtool: String? = {
      let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
      return path.split(separator: ":").map { $0 + "/promtool" }
        .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    @Test(.enabled(if: promtool != nil))
    func `The alert rules pass their unit tests`() throws {
      let process = try ChildProcess(
        try #require(Self.promtool), ["test", "rules", Self.folder + "/alerts.test.yaml"])
      #expect(process.wait() == 0)
      try eventually("its output") { process.outputEnded }
      #expect(process.output.contains("SUCCESS"), "\(process.output.suffix(4_000))")
    }
  }
}
