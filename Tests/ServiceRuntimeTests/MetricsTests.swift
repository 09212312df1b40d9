import Foundation
import Testing

@testable import ServiceRuntime

/// If promtool is not installed, the test that needs it is skipped and says so.
private let promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool", "/bin/promtool"].first {
  FileManager.default.isExecutableFile(atPath: $0)
}

/// Returns promtool's exit status and its whole output.
private func promtoolCheck(_ text: String) throws -> (status: Int32, output: String) {
  let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try Data(text.utf8).write(to: file)
  defer { try? FileManager.default.removeItem(at: file) }  // a leftover does no harm
  let process = Process()
  let pipe = Pipe()
  process.executableURL = URL(fileURLWithPath: try #require(promtool))
  process.arguments = ["check", "metrics"]
  process.standardInput = try FileHandle(forReadingFrom: file)
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
  process.waitUntilExit()
  return (process.terminationStatus, String(decoding: output, as: UTF8.self))
}

@Suite struct MetricsTests {
  private func filled() -> MetricsRegistry {
    let registry = MetricsRegistry()
    registry.counter("events_read_total", help: "Events read.", labels: [("topic", "usage")])
      .increment(by: 3)
    registry.counter("events_read_total", help: "Events read.", labels: [("topic", "alerts")])
      .increment()
    registry.gauge("consumer_lag_events", help: "A back\\slash and a\nline.").set(2.5)
    let histogram = registry.histogram(
      "flush_duration_seconds", help: "Time of a flush.", buckets: [0.001, 1, 10])
    for value in [0.0005, 0.001, 0.5, 10, 11, .nan] { histogram.observe(value) }
    return registry
  }

  @Test func `Families and series are rendered in order, with HELP and TYPE once per family`() {
    #expect(
      filled().render() == """
        # HELP consumer_lag_events A back\\\\slash and a\\nline.
        # TYPE consumer_lag_events gauge
        consumer_lag_events 2.5
        # HELP events_read_total Events read.
        # TYPE events_read_total counter
        events_read_total{topic="alerts"} 1
        events_read_total{topic="usage"} 3
        # HELP flush_duration_seconds Time of a flush.
        # TYPE flush_duration_seconds histogram
        flush_duration_seconds_bucket{le="0.001"} 2
        flush_duration_seconds_bucket{le="1"} 3
        flush_duration_seconds_bucket{le="10"} 4
        flush_duration_seconds_bucket{le="+Inf"} 5
        flush_duration_seconds_sum 21.5015
        flush_duration_seconds_count 5

        """)
  }

  @Test func `Label values are escaped`() {
    let registry = MetricsRegistry()
    registry.gauge("x_bytes", help: "X.", labels: [("b", "\"q\" \\ \n é"), ("a", "")]).set(1)
    #expect(registry.render().hasSuffix("x_bytes{a=\"\",b=\"\\\"q\\\" \\\\ \\n é\"} 1\n"))
  }

  @Test func `The same name and labels give the same object, in any order`() {
    let registry = MetricsRegistry()
    let labels = [("a", "1"), ("b", "2")]
    #expect(
      registry.counter("c_total", help: "C.", labels: labels)
        === registry.counter("c_total", help: "C.", labels: labels.reversed()))
    #expect(
      registry.counter("c_total", help: "C.", labels: labels)
        !== registry.counter("c_total", help: "C.", labels: [("a", "1")]))
    #expect(registry.gauge("g", help: "G.") === registry.gauge("g", help: "G."))
    #expect(
      registry.histogram("h_seconds", help: "H.", buckets: [1])
        === registry.histogram("h_seconds", help: "H.", buckets: [1]))
  }

  @Test func `A removed gauge is no longer rendered, nor an empty family`() {
    let registry = MetricsRegistry()
    registry.gauge("lag_events", help: "L.", labels: [("partition", "0")]).set(4)
    registry.gauge("lag_events", help: "L.", labels: [("partition", "1")]).set(5)
    registry.removeGauge("lag_events", labels: [("partition", "0")])
    #expect(!registry.render().contains("partition=\"0\""))
    #expect(registry.render().contains("partition=\"1\""))
    registry.removeGauge("lag_events", labels: [("partition", "1")])
    registry.removeGauge("unknown", labels: [])
    #expect(registry.render() == "")
  }

  @Test func `Scrape hooks run before every rendering`() {
    let registry = MetricsRegistry()
    let scrapes = registry.counter("scrapes_total", help: "S.")
    registry.onScrape { scrapes.increment() }
    #expect(registry.render().hasSuffix("scrapes_total 1\n"))
    #expect(registry.render().hasSuffix("scrapes_total 2\n"))
  }

  @Test func `Special numbers are written as Prometheus reads them`() {
    let registry = MetricsRegistry()
    for (value, text) in [
      (Double.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"), (1e21, "1e+21"),
      (-0.5, "-0.5"),
    ] {
      registry.gauge("g", help: "G.").set(value)
      #expect(registry.render().hasSuffix("g \(text)\n"))
    }
  }

  @Test func `A family stays within its limit of series and counts what it drops`() {
    let registry = MetricsRegistry()
    for index in 0..<(MetricsRegistry.maximumSeriesPerFamily + 2) {
      registry.gauge("g", help: "G.", labels: [("i", String(index))]).set(1)
    }
    let text = registry.render()
    #expect(text.contains("metrics_series_dropped_total 2\n"))
    #expect(
      text.split(separator: "\n").count { $0.hasPrefix("g{") }
        == MetricsRegistry.maximumSeriesPerFamily)
  }

  @Test func `Concurrent updates are all counted`() async {
    let registry = MetricsRegistry()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask {
          let counter = registry.counter("c_total", help: "C.")
          let histogram = registry.histogram("h_seconds", help: "H.", buckets: [1, 2])
          for index in 0..<10_000 {
            counter.increment()
            histogram.observe(Double(index % 4))
          }
        }
      }
    }
    let text = registry.render()
    #expect(text.contains("c_total 80000\n"))
    #expect(text.contains("h_seconds_bucket{le=\"1\"} 40000\n"))
    #expect(text.contains("h_seconds_sum 120000\n"))
    #expect(text.contains("h_seconds_count 80000\n"))
  }

  @Test(.enabled(if: promtool != nil))
  func `promtool accepts all that is rendered`() throws {
    let registry = filled()
    registry.gauge("odd_label_values", help: "X.", labels: [("b", "\"q\" \\ \n é")]).set(.nan)
    ProcessMetrics.register(on: registry)
    for index in 0...MetricsRegistry.maximumSeriesPerFamily {
      registry.gauge("many_things", help: "G.", labels: [("i", String(index))]).set(index)
    }
    let (status, output) = try promtoolCheck(registry.render())
    #expect(status == 0 && output == "", "\(output)")
  }

  /// A wrong name must trap here, so that promtool does not find it in production.
  @Test(
    .enabled(if: promtool != nil),
    arguments: [
      "events_read", "camelCase_total", "a_counter_total", "wait_ms_total", "wait_minutes_total",
      "wait_milliseconds_total", "read_kb_total", "gauge_values_total",
      "license_minutes_rows_total", "a:b_total", "size_kilobytes_total", "events_total",
      "m_read_total",
      "events_read_bytes_total",
      "age_days_total", "s_total", "summary_total", "meter_events_total",
    ])
  func `A counter's name is refused where promtool refuses it`(name: String) throws {
    let text = "# HELP \(name) Help.\n# TYPE \(name) counter\n\(name) 1\n"
    let problem = MetricNaming.problem(name: name, help: "Help.", kind: .counter)
    let (status, output) = try promtoolCheck(text)
    #expect((problem != nil) == (status != 0), "ours: \(problem ?? "fine"); promtool: \(output)")
  }

  @Test func `Names that would mislead are refused`() {
    #expect(MetricNaming.problem(name: "lag_total", help: "L.", kind: .gauge) != nil)
    #expect(MetricNaming.problem(name: "lag_count", help: "L.", kind: .gauge) != nil)
    #expect(MetricNaming.problem(name: "lag_events", help: "", kind: .gauge) != nil)
    #expect(MetricNaming.problem(name: "9lag", help: "L.", kind: .gauge) != nil)
    #expect(MetricNaming.problem(label: "le") != nil)
    #expect(MetricNaming.problem(label: "partition") == nil)
  }

  @Test(.enabled(if: FileManager.default.fileExists(atPath: "/proc/self/stat")))
  func `The process's own figures are plausible`() throws {
    let registry = MetricsRegistry()
    ProcessMetrics.register(on: registry)
    let values = registry.render().split(separator: "\n").filter { !$0.hasPrefix("#") }
      .reduce(into: [String: Double]()) {
        let parts = $1.split(separator: " ")
        $0[String(parts[0])] = Double(parts[1])
      }
    #expect(try #require(values["process_resident_memory_bytes"]) > 1_000_000)
    #expect(try #require(values["process_cpu_seconds_total"]) >= 0)
    #expect(try #require(values["process_open_fds"]) >= 3)
    let age = Date().timeIntervalSince1970 - (try #require(values["process_start_time_seconds"]))
    #expect((-5...86_400).contains(age))
  }
}
