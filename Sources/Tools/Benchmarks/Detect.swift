import ArgumentParser
import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore

/// Measures the whole detector and the bare librdkafka consume loop, and how soon a foreign domain
/// is reported while events flow.
struct Detect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Compares the events/s of the anomaly detector with the bare consume loop, and measures the time to an alert.",
    discussion: """
      It makes the events and starts an embedded broker and a private PostgreSQL with fsync. Then it reads the log in turn with a bare
      rd_kafka_consume_batch_queue loop and with the anomaly-detector that was built beside this program. Then events flow at --rate while
      foreign domains come one by one, and it measures the time from the producer's call until the alert's row is seen.

      Example: swift run -c release Benchmarks detect --licenses 1000
      """)

  @Option(help: "The number of events.") var events = 2_000_000
  @Option(help: "The number of licenses.") var licenses = 1_000
  @Option(help: "The number of minutes over which the times of events are spread.") var minutes = 10
  @Option(help: "How often each side runs. The ratio is that of the medians.") var runs = 3
  @Option(help: "How many events a second flow while foreign domains come.") var rate = 50_000
  @Option(help: "The number of foreign domains. 20 of them come in each second.") var domains = 300

  func run() throws {
    note("starting broker and PostgreSQL")
    let postgres = try PrivatePostgres()
    let stage = try Stage()
    let log = BenchmarkLog(
      kafka: try stage.kafka(), events: events, licenses: licenses, minutes: minutes)
    note("producing \(events) events")
    try log.produce()
    _ = try detect(postgres, stage)
    var bare: [Double] = []
    var ours: [Measured] = []
    for run in 1...runs {
      bare.append(try log.bareLoop(run))
      ours.append(try detect(postgres, stage))
      note(
        "run \(run): bare \(Int(Double(events) / bare.last!)), detector \(Int(Double(events) / ours.last!.seconds)) events/s"
      )
    }
    let bareSeconds = bare.sorted()[runs / 2]
    let seconds = ours.map(\.seconds).sorted()[runs / 2]
    let latencies = try latency(postgres, stage)
    func line(_ name: String, _ value: String) {
      print(name.padding(toLength: 34, withPad: " ", startingAt: 0) + value)
    }
    func two(_ value: Double) -> String { String(format: "%.2f", value) }
    line("events", "\(events)")
    line("licenses", "\(licenses)")
    line("bare_events_per_second", "\(Int(Double(events) / bareSeconds))")
    line("detector_events_per_second", "\(Int(Double(events) / seconds))")
    line("ratio", two(bareSeconds / seconds))
    line("cpu_seconds_per_million", two(ours.map(\.cpu).sorted()[runs / 2] / Double(events) * 1e6))
    line("peak_memory_mib", "\(ours.map(\.peakKiB).max()! / 1_024)")
    line("state_bytes_a_license", "\(ours.last!.stateBytes / licenses)")
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1)] {
      let at = min(latencies.count - 1, Int(Double(latencies.count) * q))
      line("domain_alert_\(name)_ms", String(format: "%.0f", latencies[at]))
    }
    stage.end()
  }

  private struct Measured {
    var seconds = 0.0
    var cpu = 0.0
    var peakKiB = 0
    var stateBytes = 0
  }

  private func detect(_ postgres: PrivatePostgres, _ stage: Stage) throws -> Measured {
    var measured = Measured()
    let database = TestDatabase(url: try postgres.makeDatabase())
    let port = try FreePort.next()
    let detector = try stage.startDetector(
      database: database.url, environment: ["METER_ADMIN_BIND": "127.0.0.1:\(port)"])
    let started = DispatchTime.now().uptimeNanoseconds
    let cpu = ProcessFigures.cpuSeconds(of: detector.pid)
    func elapsed() -> Double { Double(DispatchTime.now().uptimeNanoseconds - started) / 1e9 }
    // Offsets move with checkpoints, which is seconds later, so the lag tells what is read.
    while !Self.isRead(port) {
      guard elapsed() < 300, detector.isRunning else {
        throw ValidationError("not read after \(Int(elapsed())) s:\n\(detector.output)")
      }
      Thread.sleep(forTimeInterval: 0.01)
    }
    measured.seconds = elapsed()
    measured.cpu = ProcessFigures.cpuSeconds(of: detector.pid) - cpu
    measured.peakKiB = ProcessFigures.status(detector.pid, "VmHWM")
    detector.signal(SIGTERM)
    detector.wait()
    measured.stateBytes = Int(
      try database.integer(
        "select coalesce(sum(length(state)), 0) from detector_state where topic = '\(UsageLog.topic)'"
      )!
    )
    return measured
  }

  /// Whether no partition of the usage topic has anything left to read, as of at most 0.1 s ago.
  private static func isRead(_ port: Int) -> Bool {
    guard let answer = HTTPGet.get(port: port, "/metrics"), answer.status == 200 else {
      return false
    }
    let lags = answer.body.split(separator: "\n").filter {
      $0.hasPrefix("meter_detector_consumer_lag{") && $0.contains("\"\(UsageLog.topic)\"")
    }
    return lags.count == 64 && lags.allSatisfy { $0.hasSuffix(" 0") }
  }

  /// Milliseconds, sorted.
  private func latency(_ postgres: PrivatePostgres, _ stage: Stage) throws -> [Double] {
    let database = TestDatabase(url: try postgres.makeDatabase())
    try database.execute(
      """
      insert into customer (customer_id, name)
      select 'cus_' || n, 'customer' from generate_series(0, \(domains - 1)) n;
      -- Each with a customer of its own: one customer's alerts of an hour are bounded.
      insert into license (license_id, customer_id, plan, domains, issued_at, expires_at)
      select 'lic_probe_' || n, 'cus_' || n, 'professional', '{example.com}', now(), now() + interval '1 year'
      from generate_series(0, \(domains - 1)) n
      """)
    let detector = try stage.startDetector(database: database.url)
    defer { detector.killNow() }
    try eventually("the log is read", within: 120) {
      try database.integer(
        "select coalesce(sum(next_offset), 0) from consumer_offset where topic = '\(UsageLog.topic)'"
      )!
        >= events
    }
    var kafka = try stage.kafka()
    kafka.set("linger.ms", "5")
    let producer = try KafkaProducer(kafka, clientID: "probe")
    let flow = try Flow(
      stage.kafka(), rate: rate, seconds: domains / 20 + 2, licenses: licenses)
    var sent: [String: UInt64] = [:]
    var seen: [Double] = []
    var last: Int64 = 0
    func look() throws {
      for row in try database.rows(
        "select alert_id, license_id from alert where alert_id > \(last) order by 1")
      {
        last = Int64(row[0]!)!
        guard let at = sent[row[1] ?? ""] else { continue }
        seen.append(Double(DispatchTime.now().uptimeNanoseconds - at) / 1e6)
      }
    }
    for n in 0..<domains {
      sent["lic_probe_\(n)"] = DispatchTime.now().uptimeNanoseconds
      try send("lic_probe_\(n)", n, producer)
      let end = DispatchTime.now().uptimeNanoseconds + 50_000_000
      while DispatchTime.now().uptimeNanoseconds < end {
        try look()
        Thread.sleep(forTimeInterval: 0.002)
      }
    }
    try eventually("every foreign domain is told: \(seen.count) of \(domains)", within: 30) {
      try look()
      return seen.count == domains
    }
    while !flow.isFinished { Thread.sleep(forTimeInterval: 0.05) }
    note("\(flow.sentRate) events/s flowed")
    return seen.sorted()
  }

  private func send(_ license: String, _ n: Int, _ producer: KafkaProducer) throws {
    let now = UsageEventText.time(milliseconds: UsageEventText.now)
    let value = Array(
      #"{"specversion":"1.0","id":"probe-\#(n)","source":"/probe","type":"license.validation.performed","subject":"\#(license)","time":"\#(now)","data":{"code":"domain_mismatch","valid":false,"domain":"pirate\#(n).com"}}"#
        .utf8)
    try Array(license.utf8).withUnsafeBytes { key in
      try value.withUnsafeBytes {
        while try !producer.produce(topic: UsageLog.validationTopic, key: key, value: $0) {
          _ = producer.poll(timeoutMilliseconds: 1)
        }
      }
    }
    _ = producer.poll(timeoutMilliseconds: 0)
  }
}
