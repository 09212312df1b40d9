import Foundation
import MeteringTestKit
import Testing

/// Real processes and a real PostgreSQL. The log is librdkafka's mock cluster in the test process,
/// or the Kafka of `METER_TEST_KAFKA_BROKERS`.
///
/// Tests run one at a time, because each starts processes that need the whole machine. Suites are
/// nested here by extensions, one file each.
@Suite(.serialized) enum IntegrationTests {}

/// A log, a database, and the aggregators between them.
final class Pipeline {
  let log: UsageLog
  let database: TestDatabase
  private(set) var aggregators: [ConsumerProcess] = []

  init(log: UsageLog? = nil, database: TestDatabase? = nil, partitions: Int = 4) throws {
    self.log = try log ?? UsageLog(partitions: partitions, mayBeGiven: true)
    self.database = try database ?? TestDatabase()
  }

  deinit {
    for aggregator in aggregators where aggregator.process.isRunning {
      aggregator.process.killNow()
    }
  }

  /// Starts another member of the group.
  @discardableResult
  func start(
    _ product: String = "usage-aggregator", by url: String? = nil, briefSessions: Bool = true,
    kafka: [String: String] = [:],
    environment: [String: String] = [:]
  ) throws -> ConsumerProcess {
    let properties = briefSessions ? ConsumerProcess.briefSessions : [:]
    let made = try ConsumerProcess(
      product, brokers: log.brokers, databaseURL: url ?? database.url,
      kafka: properties.merging(kafka) { $1 }, environment: environment)
    aggregators.append(made)
    return made
  }

  /// Waits until every record that is in the log now is counted. If that fails, reports what the
  /// members say.
  func waitUntilCounted(within seconds: Double = 60) throws {
    do { try log.waitUntilCounted(database, within: seconds) } catch {
      let said = aggregators.suffix(4).map {
        "\($0.process.pid): \($0.process.output.suffix(2_000))"
      }
      throw NeverHappened(description: "\(error)\n\(said.joined(separator: "\n"))")
    }
  }

  /// The process exits with 0 within 10 s after SIGTERM.
  func expectStops(
    _ aggregator: ConsumerProcess, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    aggregator.process.signal(SIGTERM)
    try eventually("exit within 10 s of SIGTERM", within: 10.5) { !aggregator.process.isRunning }
    let code = aggregator.process.wait()
    if code == 0 { return }
    // The output of a crash is too long for a test's message.
    let file = NSTemporaryDirectory() + "usage-aggregator-\(aggregator.process.pid).log"
    try aggregator.process.output.write(toFile: file, atomically: true, encoding: .utf8)
    Issue.record("exit \(code), see \(file)", sourceLocation: sourceLocation)
  }
}

/// Reports the differences. An expectation of a throwing expression would not.
func expectNone(
  _ differences: [String], _ comment: Comment? = nil,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(differences == [], comment, sourceLocation: sourceLocation)
}

/// Events of a few licenses, which are counted as they are sent.
struct Traffic {
  let log: UsageLog
  var truth = UsageTruth()
  private var next = 0

  init(_ log: UsageLog) { self.log = log }

  /// Events spread over licenses, meters, domains and the last hours.
  mutating func send(_ count: Int, licenses: Int = 7) throws {
    for _ in 0..<count {
      let n = next
      next += 1
      var event = UsageEventText(id: "e\(n)", subject: "lic_\(n % licenses)")
      event.milliseconds -= Int64(n * 7_919 % 7_200_000)
      event.quantity = Int64(n % 5)
      event.meter = n % 3 == 0 ? "seats" : "api_calls"
      event.domain = "d\(n % 4).example.com"
      if n % 2 == 0 { event.feature = "analytics" }
      truth.count(event)
      try log.send(event)
    }
    try log.flush()
  }
}

/// Runs the `meterctl` of this build against a pipeline.
enum Meterctl {
  static func run(_ arguments: [String], _ pipeline: Pipeline) throws -> (
    exit: Int32, output: String
  ) {
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), arguments,
      environment: [
        "METER_KAFKA_BROKERS": pipeline.log.brokers, "METER_DATABASE_URL": pipeline.database.url,
      ])
    try eventually("the end of meterctl \(arguments)", within: 120) { !process.isRunning }
    let code = process.wait()
    try eventually("all of its output") { process.outputEnded }
    return (code, process.output)
  }

  /// Recounts the log by independent code and compares the result.
  static func expectReconciled(
    _ pipeline: Pipeline, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let answer = try run(["reconcile", "--json"], pipeline)
    #expect(
      answer.exit == 0 && answer.output.contains(#""equal""#), "\(answer.output.suffix(4_000))",
      sourceLocation: sourceLocation)
  }
}
