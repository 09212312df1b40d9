import Foundation
import MeteringTestKit
import Testing

/// What each program does before anything else.
@Suite struct StartingTests {
  private static let programs = [
    "validation-service", "usage-aggregator", "anomaly-detector", "webhook-dispatcher", "meterctl",
    "dev-broker",
  ]

  @Test("Every program says its version", arguments: programs)
  func version(_ program: String) throws {
    let process = try ChildProcess(ChildProcess.product(program), ["--version"])
    #expect(process.wait() == 0)
    try eventually("its output") { process.outputEnded }
    let words = process.output.split(whereSeparator: \.isWhitespace)
    #expect(words.count == 2 && words.first == Substring(program), "\(process.output)")
  }

  @Test(
    "A variable with a typing error is named and refused, with the name that was meant",
    arguments: programs.filter { $0 != "dev-broker" })
  func typingError(_ program: String) throws {
    let process = try ChildProcess(
      ChildProcess.product(program), program == "meterctl" ? ["status"] : [],
      environment: ["METER_SPOL_DIR": "secret-value"])
    #expect(process.wait() == (program == "meterctl" ? 2 : 78))
    try eventually("its output") { process.outputEnded }
    #expect(
      process.output
        == "\(program): METER_SPOL_DIR is not a setting of any program; did you mean METER_SPOOL_DIR?\n"
    )
  }

  @Test("No two consumer groups share a metric's name, so that a sum counts nothing twice")
  func metricNames() throws {
    let log = try UsageLog(partitions: 2)
    let database = try TestDatabase()
    func names(_ program: String) throws -> Set<Substring> {
      let port = try FreePort.next()
      let process = try ChildProcess(
        ChildProcess.product(program),
        environment: [
          "METER_DATABASE_URL": database.url, "METER_KAFKA_BROKERS": log.brokers,
          "METER_ADMIN_BIND": "127.0.0.1:\(port)",
        ])
      defer { process.killNow() }
      let text = try eventually("\(program)'s metrics; \(process.output)") {
        HTTPGet.get(port: port, "/metrics")?.body
      }
      #expect(text.contains("meter_build_info{version="))
      let families = text.split(separator: "\n").filter { $0.hasPrefix("# TYPE meter_") }
      return Set(families.map { $0.split(separator: " ")[2] })
    }
    let shared = try names("usage-aggregator").intersection(names("anomaly-detector"))
    // These metrics describe the process, not what it counts.
    #expect(
      shared == [
        "meter_build_info", "meter_ready", "meter_degraded", "meter_threads_standing_still",
        "meter_thread_silent_seconds",
      ])
  }

  @Test("JSON logs write numbers as numbers")
  func numbersInLogs() throws {
    let log = try UsageLog(partitions: 2)
    let database = try TestDatabase()
    let process = try ChildProcess(
      ChildProcess.product("usage-aggregator"),
      environment: [
        "METER_DATABASE_URL": database.url, "METER_KAFKA_BROKERS": log.brokers,
        "METER_ADMIN_BIND": "127.0.0.1:0", "METER_LOG_FORMAT": "json",
      ])
    defer { process.killNow() }
    #expect(process.waitForOutput(#""message":"partitions assigned","count":2"#))
  }
}
