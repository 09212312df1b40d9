import ArgumentParser
import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore

/// Measures the whole aggregator and the bare librdkafka consume loop on the same machine and the
/// same log, one after the other.
struct Aggregate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compares the events/s of the whole aggregator with those of the bare consume loop.",
    discussion: """
      It makes the events and starts an embedded broker and a private PostgreSQL with fsync. Then it reads the log in turn with a bare
      rd_kafka_consume_batch_queue loop and with the usage-aggregator that was built beside this program.

      Example: swift run -c release Benchmarks aggregate --licenses 1000
      """)

  @Option(help: "The number of events.") var events = 2_000_000
  @Option(help: "The number of licenses.") var licenses = 1_000
  @Option(help: "The number of minutes over which the times of events are spread.") var minutes = 10
  @Option(help: "How often each side runs. The ratio is that of the medians.") var runs = 3
  @Flag(help: "Print one JSON object instead of text.") var json = false

  func run() throws {
    note("starting broker and PostgreSQL")
    let postgres = try PrivatePostgres()
    let stage = try Stage()
    let kafka = try stage.kafka()
    note("producing \(events) events")
    let log = BenchmarkLog(kafka: kafka, events: events, licenses: licenses, minutes: minutes)
    try log.produce()

    var bare: [Double] = []
    var visible: [Double] = []
    var merged: [Double] = []
    var ours: [Double] = []
    var theirs: [Double] = []
    var last = Measured()
    note("warming up: a new PostgreSQL makes its log's files")
    _ = try aggregate(postgres, stage)
    for run in 1...runs {
      bare.append(try log.bareLoop(run))
      let measured = try aggregate(postgres, stage)
      visible.append(measured.visibleSeconds)
      merged.append(measured.mergedSeconds)
      ours.append(measured.ourCPU)
      theirs.append(measured.postgresCPU)
      last = measured
      note(
        "run \(run): bare \(rate(bare.last!)), visible \(rate(measured.visibleSeconds)), merged \(rate(measured.mergedSeconds))"
      )
    }
    let n = Double(events)
    let result: [(String, String)] = [
      ("events", "\(events)"), ("licenses", "\(licenses)"),
      ("license_minutes", "\(last.licenseMinutes)"),
      ("bare_events_per_second", "\(Int(n / median(bare)))"),
      ("visible_events_per_second", "\(Int(n / median(visible)))"),
      ("merged_events_per_second", "\(Int(n / median(merged)))"),
      ("visible_ratio", two(median(bare) / median(visible))),
      ("merged_ratio", two(median(bare) / median(merged))),
      ("cpu_seconds_per_million_ours", two(median(ours) / n * 1e6)),
      ("cpu_seconds_per_million_postgresql", two(median(theirs) / n * 1e6)),
      (
        "rows_written_per_license_minute",
        two(Double(last.rowsWritten) / Double(max(last.licenseMinutes, 1)))
      ),
      ("peak_memory_mib", "\(last.peakKiB / 1_024)"),
      ("bytes_a_license", "\((last.peakKiB - last.baseKiB) * 1_024 / licenses)"),
    ]
    if json {
      print("{" + result.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}")
    } else {
      for (name, value) in result {
        print(name.padding(toLength: 38, withPad: " ", startingAt: 0) + value)
      }
    }
    stage.end()
  }

  private struct Measured {
    var visibleSeconds = 0.0
    var mergedSeconds = 0.0
    var ourCPU = 0.0
    var postgresCPU = 0.0
    var licenseMinutes = 0
    var rowsWritten = 0
    var peakKiB = 0
    var baseKiB = 0
  }

  private func aggregate(_ postgres: PrivatePostgres, _ stage: Stage) throws -> Measured {
    var measured = Measured()
    let url = try postgres.makeDatabase()
    let watch = try PostgresConnection(url: url, application: "benchmark")
    let cpuBefore = ProcessFigures.cpuSeconds(ofTree: postgres.postmasterPID ?? 0)
    let aggregator = try stage.startAggregator(database: url)
    let started = DispatchTime.now().uptimeNanoseconds
    let ourBefore = ProcessFigures.cpuSeconds(of: aggregator.pid)
    measured.baseKiB = ProcessFigures.status(aggregator.pid, "VmRSS")
    func elapsed() -> Double { Double(DispatchTime.now().uptimeNanoseconds - started) / 1e9 }
    func poll(_ sql: String) throws {
      while try watch.query(sql).boolean(0, 0) == false {
        guard elapsed() < 300, aggregator.isRunning else {
          throw ValidationError("not counted after \(Int(elapsed())) s:\n\(aggregator.output)")
        }
        Thread.sleep(forTimeInterval: 0.01)
      }
    }
    try poll("select coalesce(sum(next_offset), 0) >= \(events) from consumer_offset")
    measured.visibleSeconds = elapsed()
    measured.ourCPU = ProcessFigures.cpuSeconds(of: aggregator.pid) - ourBefore
    try poll("select not exists (select from usage_unmerged)")
    measured.mergedSeconds = elapsed()
    measured.peakKiB = ProcessFigures.status(aggregator.pid, "VmHWM")
    measured.postgresCPU =
      ProcessFigures.cpuSeconds(ofTree: postgres.postmasterPID ?? 0) - cpuBefore
    // This comes after the measurement, because adding up all hours costs as much as a merge.
    let counted = try watch.query("select sum(event_count)::bigint from usage_by_hour").integer(
      0, 0)
    guard counted == Int64(events) else {
      throw ValidationError("counted \(counted ?? 0) of \(events)")
    }
    measured.licenseMinutes = Int(
      try watch.query("select count(*) from usage_by_minute").integer(0, 0) ?? 0)
    aggregator.signal(SIGTERM)
    aggregator.wait()
    let written = try watch.query(
      """
      select pg_stat_force_next_flush(), coalesce(sum(n_tup_ins + n_tup_upd), 0)::bigint
      from pg_stat_user_tables where relname like 'usage_%'
      """)
    measured.rowsWritten = Int(written.integer(0, 1) ?? 0)
    return measured
  }

  // MARK: Words

  private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
  private func rate(_ seconds: Double) -> String { "\(Int(Double(events) / seconds)) events/s" }
  private func two(_ value: Double) -> String { String(format: "%.2f", value) }
}
